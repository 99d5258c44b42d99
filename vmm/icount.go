package vmm

import "errors"

// How a machine counts instructions. QEMU sets the clock of a guest whose CPUs
// are all halted to its next timer at once; it knows nothing of an answer that
// the guest awaits from the host, so that the timeout would come first. Hence no
// CPU ever halts.
var (
	icountArguments = []string{"-icount", "shift=1,sleep=off"} // 1<<1 ns each
	icountCmdline   = []string{"idle=poll"}
)

// icountTSC is the frequency in kHz of the TSC of such a machine: it is QEMU's
// clock, in nanoseconds.
const icountTSC = 1_000_000

var errCountKVM = errors.New("KVM cannot count instructions: with Config.CountInstructions want AccelTCG or AccelAuto, and " + AccelEnv + " to be tcg or nothing")

// chooseAccel resolves Config.Accel on h.
func (c Config) chooseAccel(h host) (Accel, error) {
	want := c.Accel
	if c.CountInstructions && want == AccelAuto {
		want = AccelTCG
	}
	accel, err := h.choose(want)
	if err != nil {
		return 0, err
	}
	if c.CountInstructions && accel == AccelKVM {
		return 0, errCountKVM
	}
	return accel, nil
}
