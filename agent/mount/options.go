//go:build linux

package mount

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

// options are those of mount(8), in the kernel's form.
type options struct {
	flags       uintptr
	propagation []uintptr // applied one by one after the mount, each with MS_REC where asked for
	data        string    // what the file system itself is told
}

// flag is one word of mount(8): what it sets, or clears.
type flag struct {
	bits  uintptr
	clear bool
}

// flagOf knows the words that are not the file system's. The second result is false for those that are.
func flagOf(word string) (flag, bool) {
	f, ok := map[string]flag{
		"defaults":      {},
		"ro":            {unix.MS_RDONLY, false},
		"rw":            {unix.MS_RDONLY, true},
		"nosuid":        {unix.MS_NOSUID, false},
		"suid":          {unix.MS_NOSUID, true},
		"nodev":         {unix.MS_NODEV, false},
		"dev":           {unix.MS_NODEV, true},
		"noexec":        {unix.MS_NOEXEC, false},
		"exec":          {unix.MS_NOEXEC, true},
		"sync":          {unix.MS_SYNCHRONOUS, false},
		"async":         {unix.MS_SYNCHRONOUS, true},
		"dirsync":       {unix.MS_DIRSYNC, false},
		"noatime":       {unix.MS_NOATIME, false},
		"atime":         {unix.MS_NOATIME, true},
		"nodiratime":    {unix.MS_NODIRATIME, false},
		"diratime":      {unix.MS_NODIRATIME, true},
		"relatime":      {unix.MS_RELATIME, false},
		"norelatime":    {unix.MS_RELATIME, true},
		"strictatime":   {unix.MS_STRICTATIME, false},
		"nostrictatime": {unix.MS_STRICTATIME, true},
		"lazytime":      {unix.MS_LAZYTIME, false},
		"nolazytime":    {unix.MS_LAZYTIME, true},
		"nosymfollow":   {unix.MS_NOSYMFOLLOW, false},
		"symfollow":     {unix.MS_NOSYMFOLLOW, true},
		"silent":        {unix.MS_SILENT, false},
		"loud":          {unix.MS_SILENT, true},
		"iversion":      {unix.MS_I_VERSION, false},
		"noiversion":    {unix.MS_I_VERSION, true},
		"remount":       {unix.MS_REMOUNT, false},
		"bind":          {unix.MS_BIND, false},
		"rbind":         {unix.MS_BIND | unix.MS_REC, false},
	}[word]
	return f, ok
}

func propagationOf(word string) uintptr {
	return map[string]uintptr{
		"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE | unix.MS_REC,
		"slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE | unix.MS_REC,
		"shared": unix.MS_SHARED, "rshared": unix.MS_SHARED | unix.MS_REC,
		"unbindable": unix.MS_UNBINDABLE, "runbindable": unix.MS_UNBINDABLE | unix.MS_REC,
	}[word]
}

// maxData is what the kernel copies of the file system's options: a page, with its NUL.
const maxData = 4095

// parseOptions reads words, each of which may be a comma-separated list; the last of two that contradict each other holds.
func parseOptions(words []string) (*options, error) {
	o := new(options)
	var data []string
	for _, word := range strings.Split(strings.Join(words, ","), ",") {
		if word == "" || strings.HasPrefix(word, "x-") { // x- words are comments, mount(8)
			continue
		}
		if strings.ContainsRune(word, 0) {
			return nil, failure.Field("options", "%.64q contains a NUL byte", word)
		}
		if p := propagationOf(word); p != 0 {
			o.propagation = append(o.propagation, p)
		} else if f, ok := flagOf(word); !ok {
			data = append(data, word)
		} else if f.clear {
			o.flags &^= f.bits
		} else {
			o.flags |= f.bits
		}
	}
	o.data = strings.Join(data, ",")
	if len(o.data) > maxData {
		return nil, failure.Field("options", "%d bytes for the file system, at most %d", len(o.data), maxData)
	}
	return o, nil
}
