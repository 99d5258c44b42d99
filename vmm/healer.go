package vmm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// lookInterval is how often a healer looks at the CPUs. A look costs QEMU and this process some 0.1 ms; about every second one at a CPU
// that hangs finds it at the instruction, not in the handler.
const lookInterval = 250 * time.Millisecond

// fixedIn is the first QEMU that needs no healer.
var fixedIn = [2]int{8, 1}

// healer lets emulated CPUs go on that hang in a breakpoint which is not there any more. In QEMU before 8.1 a CPU can go on with what it
// translated from memory that another CPU was changing at that moment. Where Linux patches itself that is a breakpoint, and the handler,
// which finds none in memory, goes back to it for ever (docs/decisions/0013). To write memory, even what it holds already, has QEMU
// translate it anew.
//
// Its goroutine is joined by drain.
type healer struct {
	monitor *monitor
	memory  net.Conn // QEMU's qtest protocol, which reads and writes the guest's memory
	answers *bufio.Reader
	log     *slog.Logger
	ended   chan struct{} // closed by the goroutine when it returns
}

// canHang says whether a CPU could hang so under some version of QEMU: two must run at once.
func (c Config) canHang() bool { return c.Accel == AccelTCG && c.CPUs > 1 && !c.CountInstructions }

// newHealer takes over memory and starts the goroutine.
func newHealer(m *monitor, memory net.Conn, log *slog.Logger) *healer {
	h := &healer{monitor: m, memory: memory, answers: bufio.NewReader(memory), log: log, ended: make(chan struct{})}
	go h.run()
	return h
}

// drain joins the goroutine. The monitor must have been drained.
func (h *healer) drain() {
	h.memory.Close()
	<-h.ended
}

// run ends when QEMU does. A failure leaves the machine as it would be without a healer.
func (h *healer) run() {
	defer close(h.ended)
	select {
	case <-h.monitor.ready:
	case <-h.monitor.ended:
		return
	}
	if !h.monitor.olderThan(fixedIn) {
		return
	}
	if err := h.watch(); !errors.Is(err, errMonitorGone) {
		h.log.Warn("cannot look for CPUs that hang", "error", err)
	}
}

// watch looks at the CPUs again and again, and returns why it cannot go on: errMonitorGone when QEMU has ended.
func (h *healer) watch() error {
	qtest := map[string]any{"qom-type": "qtest", "id": "memory", "chardev": "memory", "log": "none"}
	if _, err := h.monitor.ask(context.Background(), "object-add", qtest); err != nil {
		return err
	}
	ticks := time.NewTicker(lookInterval)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
		case <-h.monitor.ended:
			return errMonitorGone
		}
		if h.monitor.isStopped() {
			continue // its CPUs stay where they are, whatever is done to them
		}
		if err := h.look(); err != nil {
			return err
		}
	}
}

// look heals every CPU that hangs.
func (h *healer) look() error {
	registers, err := h.monitor.command("info registers -a", 0)
	if err != nil {
		return err
	}
	for _, c := range kernelCPUs(registers) {
		if after, err := h.lastTrap(c); err != nil {
			return err
		} else if after != c.ip+1 {
			continue
		}
		if err := h.heal(c); err != nil {
			return err
		}
	}
	return nil
}

// lastTrap returns what is on the stack, beneath its end, where an exception at this instruction would have put its address. Behind a
// breakpoint that is the next byte's: a CPU that has just come back from one is about to run into it again.
func (h *healer) lastTrap(c cpuState) (uint64, error) {
	const frame = 5 * 8 // SS, RSP, RFLAGS, CS, RIP, from an address that is a multiple of 16
	answer, err := h.monitor.command(fmt.Sprintf("x/1gx %#x", c.sp&^15-frame), c.index)
	if err != nil {
		return 0, err
	}
	_, content, _ := strings.Cut(strings.TrimSpace(answer), ": 0x")
	address, _ := strconv.ParseUint(content, 16, 64) // 0 where nothing is mapped
	return address, nil
}

// heal writes the byte at which a CPU is, unless it is a breakpoint, which the kernel is about to take away.
func (h *healer) heal(c cpuState) error {
	const breakpoint = "0xcc"
	answer, err := h.monitor.command(fmt.Sprintf("gva2gpa %#x", c.ip), c.index)
	if err != nil {
		return err
	}
	physical, ok := strings.CutPrefix(strings.TrimSpace(answer), "gpa: ")
	if !ok {
		return nil // it is not mapped any more
	}
	content, err := h.access("read " + physical + " 0x1")
	if err != nil || content == breakpoint {
		return err
	}
	if _, err := h.access("write " + physical + " 0x1 " + content); err != nil {
		return err
	}
	h.log.Warn("a CPU hung in an instruction that QEMU had translated too early, and goes on", "cpu", c.index, "address", fmt.Sprintf("%#x", c.ip))
	return nil
}

// access sends a command of the qtest protocol and returns what the answer has behind its OK.
func (h *healer) access(command string) (string, error) {
	if _, err := fmt.Fprintln(h.memory, command); err != nil {
		return "", errMonitorGone
	}
	line, err := h.answers.ReadString('\n')
	if err != nil {
		return "", errMonitorGone
	}
	content, ok := strings.CutPrefix(strings.TrimSpace(line), "OK")
	if !ok {
		return "", fmt.Errorf("QEMU: %q", line)
	}
	return strings.TrimSpace(content), nil
}

// cpuState is where a CPU was when QEMU was asked.
type cpuState struct {
	index  int
	ip, sp uint64
}

// inKernel finds, in what QEMU's "info registers -a" prints, a CPU in 64-bit mode that runs a kernel.
var inKernel = regexp.MustCompile(`CPU#(\d+)[^#]*RSP=([0-9a-f]{16})[^#]*RIP=([0-9a-f]{16})[^#\n]* CPL=0 [^#\n]* HLT=0`)

// kernelCPUs returns the CPUs that run a kernel; one that is halted does not.
func kernelCPUs(registers string) []cpuState {
	var out []cpuState
	for _, m := range inKernel.FindAllStringSubmatch(registers, -1) {
		index, _ := strconv.Atoi(m[1]) // no error: the pattern has digits alone
		sp, _ := strconv.ParseUint(m[2], 16, 64)
		ip, _ := strconv.ParseUint(m[3], 16, 64)
		out = append(out, cpuState{index, ip, sp})
	}
	return out
}
