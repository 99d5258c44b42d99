// Package logrus has the part of github.com/sirupsen/logrus that libcontainer uses: one logger with levels, in two formats. See the README above this directory.
package logrus

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Level says how grave a message is, less grave ones being greater.
type Level uint32

// The levels.
const (
	PanicLevel Level = iota
	FatalLevel
	ErrorLevel
	WarnLevel
	InfoLevel
	DebugLevel
	TraceLevel
)

var levelNames = [...]string{"panic", "fatal", "error", "warning", "info", "debug", "trace"}

func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return "unknown"
}

// UnmarshalText takes a level's name.
func (l *Level) UnmarshalText(text []byte) error {
	for n, name := range levelNames {
		if string(text) == name {
			*l = Level(n)
			return nil
		}
	}
	return fmt.Errorf("not a valid logrus Level: %q", text)
}

// Fields are what a message says besides its text.
type Fields map[string]any

// Formatter is a format of messages.
type Formatter interface {
	format(at time.Time, level Level, fields Fields, message string) []byte
}

// TextFormatter writes a line of words, each with a name and a value.
type TextFormatter struct{}

func (*TextFormatter) format(at time.Time, level Level, fields Fields, message string) []byte {
	line := fmt.Appendf(nil, "time=%q level=%v msg=%q", at.Format(time.RFC3339), level, message)
	for name, value := range fields {
		line = fmt.Appendf(line, " %s=%q", name, fmt.Sprint(value))
	}
	return append(line, '\n')
}

// JSONFormatter writes a line of JSON, as libcontainer's init does to its parent.
type JSONFormatter struct{}

func (*JSONFormatter) format(at time.Time, level Level, fields Fields, message string) []byte {
	all := map[string]string{"time": at.Format(time.RFC3339), "level": level.String(), "msg": message}
	for name, value := range fields {
		all[name] = fmt.Sprint(value)
	}
	line, err := json.Marshal(all)
	if err != nil {
		return nil // there is no such error: these are strings
	}
	return append(line, '\n')
}

// Logger writes messages. There is one, StandardLogger, and copies of it are the same.
type Logger struct {
	ReportCaller bool // is not used
	*state
}

type state struct {
	mu     sync.Mutex
	level  Level
	out    io.Writer
	format Formatter
}

var standard = &Logger{state: &state{level: InfoLevel, out: os.Stderr, format: new(TextFormatter)}}

// StandardLogger is the logger.
func StandardLogger() *Logger { return standard }

// SetLevel drops what is less grave than level.
func SetLevel(level Level) {
	standard.mu.Lock()
	defer standard.mu.Unlock()
	standard.level = level
}

// GetLevel is what SetLevel set.
func GetLevel() Level {
	standard.mu.Lock()
	defer standard.mu.Unlock()
	return standard.level
}

// SetOutput says where messages go.
func SetOutput(w io.Writer) {
	standard.mu.Lock()
	defer standard.mu.Unlock()
	standard.out = w
}

// SetFormatter sets the format.
func SetFormatter(f Formatter) {
	standard.mu.Lock()
	defer standard.mu.Unlock()
	standard.format = f
}

func (s *state) write(level Level, fields Fields, message func() string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if level <= s.level {
		_, _ = s.out.Write(s.format.format(time.Now(), level, fields, message()))
	}
}

// Log writes a message.
func (l *Logger) Log(level Level, args ...any) { (&Entry{}).log(level, args) }

// Logf writes a message.
func (l *Logger) Logf(level Level, format string, args ...any) { (&Entry{}).logf(level, format, args) }

// Entry is a message to be, with fields.
type Entry struct{ fields Fields }

// WithError gives a message an error.
func WithError(err error) *Entry { return WithFields(Fields{"error": err}) }

// WithFields gives a message fields.
func WithFields(fields Fields) *Entry { return &Entry{fields: fields} }

func (e *Entry) log(level Level, args []any) {
	standard.write(level, e.fields, func() string { return fmt.Sprint(args...) })
}

func (e *Entry) logf(level Level, format string, args []any) {
	standard.write(level, e.fields, func() string { return fmt.Sprintf(format, args...) })
}

// Methods and functions for each level that is used.

func (e *Entry) Error(args ...any)                 { e.log(ErrorLevel, args) }
func (e *Entry) Warn(args ...any)                  { e.log(WarnLevel, args) }
func (e *Entry) Warnf(format string, args ...any)  { e.logf(WarnLevel, format, args) }
func (e *Entry) Debugf(format string, args ...any) { e.logf(DebugLevel, format, args) }

func Error(args ...any)                 { new(Entry).log(ErrorLevel, args) }
func Errorf(format string, args ...any) { new(Entry).logf(ErrorLevel, format, args) }
func Warn(args ...any)                  { new(Entry).log(WarnLevel, args) }
func Warnf(format string, args ...any)  { new(Entry).logf(WarnLevel, format, args) }
func Info(args ...any)                  { new(Entry).log(InfoLevel, args) }
func Infof(format string, args ...any)  { new(Entry).logf(InfoLevel, format, args) }
func Debug(args ...any)                 { new(Entry).log(DebugLevel, args) }
func Debugf(format string, args ...any) { new(Entry).logf(DebugLevel, format, args) }
