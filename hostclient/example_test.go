package hostclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bellhop-vm/bellhop/hostclient"
)

// The examples need a guest, so they are compiled and not run here; vmtest runs their like in virtual machines.

func ExampleConnect() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the guest may still be booting
	defer cancel()
	client, err := hostclient.Connect(ctx, hostclient.HybridSocket("/run/vm/vsock"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	out, err := client.Command(ctx, "uname", "-a").Output()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", out)
}

func ExampleHybridSocket() {
	client, err := hostclient.Connect(context.Background(), hostclient.HybridSocket("/run/firecracker/v.sock"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
}

func ExampleVsock() {
	client, err := hostclient.Connect(context.Background(), hostclient.Vsock(3), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
}

func ExampleNewUnixPorts() {
	ports, err := hostclient.NewUnixPorts(
		map[uint32]string{1024: "/run/vm/agent.sock"}, // the guest listens
		map[uint32]string{5000: "/run/vm/stdio.sock"}, // the guest dials
	)
	if err != nil {
		log.Fatal(err)
	}
	defer ports.Close()
	client, err := hostclient.Connect(context.Background(), ports, &hostclient.Config{StdioPort: 5000})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
}

func ExampleTransportFuncs() {
	transport := hostclient.TransportFuncs{
		DialFunc: func(ctx context.Context, port uint32) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", fmt.Sprintf("/run/vm/guest-%d", port))
		},
		ListenFunc: func(port uint32) (net.Listener, error) {
			return net.Listen("unix", fmt.Sprintf("/run/vm/host-%d", port))
		},
	}
	client, err := hostclient.Connect(context.Background(), transport, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
}

func ExampleClient_Command() {
	var client *hostclient.Client // from Connect
	cmd := client.Command(context.Background(), "tr", "a-z", "A-Z")
	cmd.Stdin = strings.NewReader("hello\n")
	cmd.Stdout = os.Stdout
	if err := cmd.Run(); err != nil {
		log.Fatal(err)
	}
}

func ExampleClient_NewContainer() {
	var client *hostclient.Client // from Connect
	ctx := context.Background()
	if err := client.Mount(ctx, hostclient.Mount{Source: "/dev/vda", Target: "/run/rootfs", Type: "ext4"}); err != nil {
		log.Fatal(err)
	}
	web := client.NewContainer("web", hostclient.DefaultSpec("/run/rootfs", "httpd", "-f"))
	init := web.Init(ctx)
	init.Stdout, init.Stderr = os.Stdout, os.Stderr
	if err := init.Start(); err != nil {
		log.Fatal(err)
	}
	out, err := web.Command(ctx, "ps").Output() // beside it
	if err != nil {
		log.Print(err)
	}
	fmt.Printf("%s", out)
	if err := web.Kill(ctx, hostclient.SIGTERM); err != nil {
		log.Print(err)
	}
	fmt.Println(init.Wait())
}

func ExampleClient_Container() {
	var client *hostclient.Client // from Connect
	ctx := context.Background()
	web := client.Container("web") // which somebody else created
	if out, err := web.Command(ctx, "date").CombinedOutput(); err == nil {
		fmt.Printf("%s", out)
	}
	if err := web.Delete(ctx); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		log.Fatal(err)
	}
}

func ExampleContainer_Pause() {
	var client *hostclient.Client // from Connect
	ctx := context.Background()
	web := client.Container("web")
	if err := web.Pause(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("nothing in it runs")
	if err := web.Resume(ctx); err != nil {
		log.Fatal(err)
	}
}

func ExampleContainer_Resume() {
	var client *hostclient.Client // from Connect
	ctx := context.Background()
	list, err := client.List(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range list {
		if p.IsContainer && p.State == hostclient.StatePaused {
			if err := client.Container(p.ID).Resume(ctx); err != nil {
				log.Print(err)
			}
		}
	}
}

func ExampleContainer_Update() {
	var client *hostclient.Client // from Connect
	limit := int64(256 << 20)
	err := client.Container("web").Update(context.Background(), &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}})
	if errors.Is(err, errdefs.ErrInvalidArgument) {
		fmt.Println("nothing has changed:", err)
	}
}

func ExampleClient_Statistics() {
	var client *hostclient.Client                       // from Connect
	all, err := client.Statistics(context.Background()) // of all containers
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range all {
		fmt.Printf("%s: %v of processor time, %d MiB in use\n", s.Container, s.CPU.Usage, s.Memory.WorkingSet()>>20)
	}
}

func ExampleContainer_Statistics() {
	var client *hostclient.Client // from Connect
	s, err := client.Container("web").Statistics(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	if s.Memory.Limit != hostclient.Unlimited {
		fmt.Printf("%.0f %% of its memory, %d killed for want of it\n", 100*float64(s.Memory.Current)/float64(s.Memory.Limit), s.Memory.OOMKills)
	}
	for _, n := range s.Networks {
		fmt.Printf("%s: received %d bytes, sent %d\n", n.Name, n.ReceivedBytes, n.SentBytes)
	}
}

func ExampleDefaultSpec() {
	spec := hostclient.DefaultSpec("/run/rootfs", "sh")
	spec.Process.Terminal = true
	spec.Process.Env = append(spec.Process.Env, "TERM=xterm")
	hostclient.ShareNetwork(spec)
	fmt.Println(spec.Process.Args, len(spec.Linux.Namespaces))
	// Output: [sh] 5
}

// A container that may mount needs the capability, and a filter that lets it use it.
func ExampleDefaultSeccomp() {
	spec := hostclient.DefaultSpec("/run/rootfs", "sh")
	c := spec.Process.Capabilities
	c.Bounding = append(c.Bounding, "CAP_SYS_ADMIN")
	c.Permitted, c.Effective = c.Bounding, c.Bounding
	spec.Linux.Seccomp = hostclient.DefaultSeccomp(c.Bounding)

	fmt.Println(slices.Contains(spec.Linux.Seccomp.Syscalls[0].Names, "mount"))
	// Output: true
}

func ExampleShareNetwork() {
	spec := hostclient.DefaultSpec("/run/rootfs", "ip", "address")
	hostclient.ShareNetwork(spec) // the guest's interfaces, not loopback alone
	fmt.Println(len(spec.Linux.Namespaces))
	// Output: 5
}

func ExampleCmd_Run() {
	var client *hostclient.Client // from Connect
	err := client.Command(context.Background(), "sh", "-c", "kill -SEGV $$").Run()
	if exit, ok := errors.AsType[*hostclient.ExitError](err); ok {
		fmt.Println(exit, exit.ExitCode())
	}
}

func ExampleCmd_StdinPipe() {
	var client *hostclient.Client // from Connect
	cmd := client.Command(context.Background(), "cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		defer stdin.Close()
		io.WriteString(stdin, "the input of cat\n")
	}()
	out, err := cmd.Output()
	fmt.Printf("%s %v", out, err)
}

func ExampleCmd_StdoutPipe() {
	var client *hostclient.Client // from Connect
	cmd := client.Command(context.Background(), "dmesg")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		log.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(os.Stdout, stdout); err != nil {
		log.Print(err)
	}
	fmt.Println(cmd.Wait())
}

func ExampleCmd_StderrPipe() {
	var client *hostclient.Client // from Connect
	cmd := client.Command(context.Background(), "sh", "-c", "echo problem >&2")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		log.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(os.Stderr, stderr); err != nil {
		log.Print(err)
	}
	fmt.Println(cmd.Wait())
}

func ExampleCmd_CombinedOutput() {
	var client *hostclient.Client // from Connect
	out, err := client.Command(context.Background(), "sh", "-c", "echo out; echo err >&2").CombinedOutput()
	fmt.Printf("%s %v", out, err)
}

func ExampleClient_NewProcess() {
	var client *hostclient.Client // from Connect
	ctx := context.Background()
	p, err := client.NewProcess(hostclient.ProcessConfig{
		ID:        "backup",
		Container: "database",
		Process:   &specs.Process{Args: []string{"pg_dumpall"}, Cwd: "/", User: specs.User{Username: "postgres"}},
		Stdout:    os.Stdout,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer p.ForceDelete(ctx) // right in every case, also if Create fails
	if err := p.Create(ctx); err != nil {
		log.Fatal(err)
	}
	if err := p.Start(ctx); err != nil {
		log.Fatal(err)
	}
	status, err := p.Wait(ctx)
	fmt.Println(p.Pid(), status, err)
}

func ExampleProcess_Launch() {
	var p *hostclient.Process // from Client.NewProcess
	ctx := context.Background()
	if err := p.Launch(ctx); err != nil { // Create and Start in one round trip
		log.Fatal(err)
	}
	status, err := p.Wait(ctx)
	fmt.Println(status, err)
}

func ExampleProcess_Kill() {
	var p *hostclient.Process // from Client.NewProcess
	sig, err := hostclient.ParseSignal("TERM")
	if err != nil {
		log.Fatal(err)
	}
	err = p.Kill(context.Background(), sig)
	if errors.Is(err, errdefs.ErrFailedPrecondition) {
		fmt.Println("it has exited already")
	}
}

func ExampleProcess_Wait() {
	var p *hostclient.Process // from Client.NewProcess
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	status, err := p.Wait(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, out := range status.Outputs {
		if !out.Drained {
			fmt.Println(out.Stream, "is still held open by", out.Holders)
		}
	}
}

func ExampleProcess_WaitExit() {
	var p *hostclient.Process                       // from Client.NewProcess
	status, err := p.WaitExit(context.Background()) // its output may still be on the way
	fmt.Println(status, err)
}

func ExampleProcess_Resize() {
	var p *hostclient.Process // with a terminal
	if err := p.Resize(context.Background(), 120, 40); err != nil {
		log.Print(err)
	}
}

func ExampleProcess_Detach() {
	var p *hostclient.Process // from Client.NewProcess
	if err := p.Detach(context.Background()); err != nil {
		log.Fatal(err)
	}
	// The process runs on; another client attaches by p.ID().
}

func ExampleClient_Attach() {
	var client *hostclient.Client // from Connect
	p, err := client.Attach(context.Background(), "web", &hostclient.AttachConfig{Stdout: os.Stdout, TakeOver: true})
	if err != nil {
		log.Fatal(err)
	}
	status, err := p.Wait(context.Background())
	fmt.Println(status, err)
}

func ExampleClient_Watch() {
	var client *hostclient.Client // from Connect
	for event, err := range client.Watch(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		switch e := event.(type) {
		case hostclient.ProcessChanged:
			fmt.Println(e.ID, e.State)
		case hostclient.OutOfMemory:
			fmt.Println(e.Container, "is out of memory")
		}
	}
}

func ExampleClient_List() {
	var client *hostclient.Client // from Connect
	processes, err := client.List(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range processes {
		fmt.Println(p.ID, p.State, p.Pid)
	}
}

func ExampleClient_Info() {
	var client *hostclient.Client // from Connect
	info, err := client.Info(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.KernelRelease, info.CPUs, info.Timeline.Listen-info.Timeline.Init)
}

func ExampleClient_Mount() {
	var client *hostclient.Client // from Connect
	err := client.Mount(context.Background(), hostclient.Mount{
		Source: "tmpfs", Target: "/scratch", Type: "tmpfs", Options: []string{"size=64m", "nodev"},
	})
	if err != nil {
		log.Fatal(err)
	}
}

func ExampleClient_PrepareRootfs() {
	var client *hostclient.Client // from Connect
	ctx := context.Background()
	rootfs, err := client.PrepareRootfs(ctx, hostclient.Rootfs{
		Layers: []hostclient.FileSystem{
			{Source: "/dev/vda", Type: "erofs"}, // the lowest
			{Source: "/dev/vdb", Type: "erofs"},
		},
		Upper: &hostclient.Upper{Limit: 256 << 20}, // in the guest's memory
	})
	if err != nil {
		log.Fatal(err)
	}
	for range 2 { // the second finds what the first has written
		counter := client.NewContainer("counter", hostclient.DefaultSpec(rootfs.Path, "sh", "-c", "echo >>/count; wc -l </count"))
		out, err := counter.Init(ctx).Output()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s", out)
	}
	if err := rootfs.Remove(ctx); err != nil {
		log.Fatal(err)
	}
}

func ExamplePreparedRootfs_Remove() {
	var client *hostclient.Client // from Connect
	ctx := context.Background()
	rootfs, err := client.ListRootfs(ctx) // also those that other clients have prepared
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range rootfs {
		if err := r.Remove(ctx); err != nil && !errors.Is(err, errdefs.ErrFailedPrecondition) { // a container uses it
			log.Print(err)
		}
	}
}

func ExampleClient_ListRootfs() {
	var client *hostclient.Client // from Connect
	rootfs, err := client.ListRootfs(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range rootfs {
		fmt.Println(r.ID, r.Path, r.Containers)
	}
}

func ExampleNetworkFiles() {
	var client *hostclient.Client // from Connect
	spec := hostclient.DefaultSpec("/run/rootfs", "ping", "-c1", "example.org")
	spec.Root.Readonly = true
	ping := client.NewContainer("", spec)
	ping.Files = hostclient.NetworkFiles(spec.Hostname, netip.MustParseAddr("10.0.2.3"))
	if err := ping.Init(context.Background()).Run(); err != nil {
		log.Fatal(err)
	}
}

func ExampleClient_Shutdown() {
	var client *hostclient.Client // from Connect
	if err := client.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func ExampleClient_Pause() {
	var client *hostclient.Client // from Connect
	client.Pause()
	// The machine's monitor pauses it, takes a snapshot, and lets it go on.
	client.Resume()
}

func ExampleShellCode() {
	var client *hostclient.Client // from Connect
	os.Exit(hostclient.ShellCode(client.Command(context.Background(), "false").Run()))
}

func ExampleParseSignal() {
	for _, text := range []string{"TERM", "sigkill", "34"} {
		sig, err := hostclient.ParseSignal(text)
		fmt.Println(sig, err)
	}
	// Output:
	// SIGTERM <nil>
	// SIGKILL <nil>
	// signal 34 <nil>
}

func ExampleClient_Ping() {
	var client *hostclient.Client // from Connect
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := client.Ping(ctx); err != nil {
		log.Print("the guest does not answer: ", err)
	}
}

func ExampleClient_Unmount() {
	var client *hostclient.Client // from Connect
	err := client.Unmount(context.Background(), "/scratch")
	if errors.Is(err, errdefs.ErrFailedPrecondition) {
		fmt.Println("somebody still has a file open there")
	}
}

func ExampleClient_Done() {
	var client *hostclient.Client // from Connect
	<-client.Done()
	if errors.Is(client.Err(), hostclient.ErrClosed) {
		return
	}
	log.Print("the guest is lost: ", client.Err())
}

func ExampleClient_Reboot() {
	var client *hostclient.Client // from Connect
	if err := client.Reboot(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func ExampleContainer_Kill() {
	var client *hostclient.Client // from Connect
	if err := client.Container("web").Kill(context.Background(), hostclient.SIGTERM); errors.Is(err, errdefs.ErrFailedPrecondition) {
		fmt.Println("it has exited already")
	}
}

func ExampleCmd_Output() {
	var client *hostclient.Client // from Connect
	out, err := client.Command(context.Background(), "cat", "/nonexistent").Output()
	if exit, ok := errors.AsType[*hostclient.ExitError](err); ok {
		fmt.Printf("%q, and on its standard error %q\n", out, exit.Stderr)
	}
}

func ExampleCmd_Start() {
	var client *hostclient.Client // from Connect
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel() // would kill it
	cmd := client.Command(ctx, "make", "-C", "/src")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("runs as", cmd.Process.Pid())
	fmt.Println("ended with", hostclient.ShellCode(cmd.Wait()))
}

func ExampleProcess_Create() {
	var p *hostclient.Process // from NewProcess
	ctx := context.Background()
	if err := p.Create(ctx); err != nil { // its stdio is connected now, it does not run
		log.Fatal(err)
	}
	if err := p.Resize(ctx, 120, 40); err != nil {
		log.Fatal(err)
	}
	if err := p.Start(ctx); err != nil {
		log.Fatal(err)
	}
}

func ExampleProcess_KillAll() {
	var p *hostclient.Process // the first of a container
	if err := p.KillAll(context.Background(), hostclient.SIGTERM); err != nil {
		log.Print(err)
	}
}

func ExampleProcess_CloseStdin() {
	var p *hostclient.Process // which reads os.Stdin
	if err := p.CloseStdin(context.Background()); err != nil {
		log.Print(err)
	}
}

func ExampleProcess_Delete() {
	var p *hostclient.Process // from NewProcess or Attach
	ctx := context.Background()
	err := p.Delete(ctx)
	if errors.Is(err, errdefs.ErrFailedPrecondition) { // it runs
		var survivors []hostclient.Holder
		survivors, err = p.ForceDelete(ctx)
		for _, s := range survivors {
			fmt.Printf("%d (%q) lives on in the container\n", s.Pid, s.Name)
		}
	}
	if err != nil {
		log.Fatal(err)
	}
}

func ExampleClient_NewPod() {
	var client *hostclient.Client // from Connect
	ctx := context.Background()
	pod, err := client.NewPod(ctx, hostclient.PodConfig{
		ID: "shop", Hostname: "shop",
		NetDevices: map[string]specs.LinuxNetDevice{"eth1": {Name: "eth0"}}, // the guest's second interface
	})
	if err != nil {
		log.Fatal(err)
	}
	defer pod.Delete(ctx)
	database := pod.NewContainer("database", hostclient.DefaultSpec("/run/postgres", "postgres")).Init(ctx)
	if err := database.Start(); err != nil {
		log.Fatal(err)
	}
	server := pod.NewContainer("server", hostclient.DefaultSpec("/run/shop", "serve", "--database", "localhost"))
	fmt.Println(server.Init(ctx).Run())
}

func ExamplePod_NewContainer() {
	var pod *hostclient.Pod // from Client.NewPod
	ctx := context.Background()
	web := pod.NewContainer("web", hostclient.DefaultSpec("/run/rootfs", "httpd", "-f"))
	init := web.Init(ctx)
	init.Config = func(c *hostclient.ProcessConfig) { c.BuiltIn = hostclient.BuiltInInit }
	if err := init.Start(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(init.Wait())
}

func ExamplePod_Delete() {
	var pod *hostclient.Pod // from Client.NewPod
	if err := pod.Delete(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func ExampleContainer_Share() {
	var client *hostclient.Client // from Connect
	ctx := context.Background()
	web := client.NewContainer("web", hostclient.DefaultSpec("/run/rootfs", "httpd", "-f"))
	server := web.Init(ctx)
	if err := server.Start(); err != nil {
		log.Fatal(err)
	}
	probe := client.NewContainer("probe", hostclient.DefaultSpec("/run/rootfs", "wget", "-qO-", "http://localhost"))
	probe.Share(web, specs.NetworkNamespace)
	out, err := probe.Init(ctx).Output()
	fmt.Printf("%s %v", out, err)
}
