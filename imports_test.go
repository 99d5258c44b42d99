// Package bellhop_test holds the design's import arrows: which part of the repository may know which.
package bellhop_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/bellhop-vm/bellhop"

// goPackage is what the test needs of `go list -json`.
type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// list runs go list for a platform, without cgo where it is another one than the agent's.
func list(t *testing.T, goos string, args ...string) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, args...)...)
	cmd.Env = environment(goos)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %q: %v\n%s", args, err, stderr.Bytes())
	}
	var packages []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("go list %q: %v", args, err)
		}
		packages = append(packages, p)
	}
}

func environment(goos string) []string {
	env := append(os.Environ(), "GOOS="+goos)
	if goos != "linux" {
		env = append(env, "CGO_ENABLED=0")
	}
	return env
}

// inside says whether a package belongs to a part: a directory of the module, or a module.
func inside(importPath, part string) bool {
	return importPath == part || strings.HasPrefix(importPath, part+"/")
}

func insideAny(importPath string, parts []string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return inside(importPath, part) })
}

// own gives the path of a part of this module.
func own(part string) string { return module + "/" + part }

// The modules that only some parts may use.
const (
	protobuf    = "github.com/aperturerobotics/protobuf-go-lite"
	errdefs     = "github.com/containerd/errdefs"
	yamux       = "github.com/hashicorp/yamux"
	vsock       = "github.com/mdlayher/vsock"
	xsys        = "golang.org/x/sys"
	xsync       = "golang.org/x/sync"
	runtimeSpec = "github.com/opencontainers/runtime-spec" // types only
	compression = "github.com/klauspost/compress"
)

// arrows is the table "Parts, and who may know whom" of the design. A part may import itself, the standard library, the parts and the modules named, and
// nothing else.
var arrows = []struct {
	part      string
	parts     []string
	anyModule bool // other modules are not limited
	modules   []string
}{
	{part: "protocol", modules: []string{protobuf, errdefs}},
	{part: "agent", parts: []string{"protocol"}, anyModule: true},
	{part: "hostclient", parts: []string{"protocol"}, modules: []string{errdefs, yamux, vsock, xsys, runtimeSpec}},
	{part: "initramfs", modules: []string{compression}},
	{part: "vmm", parts: []string{"initramfs/kernelimage"}, modules: []string{xsys}},
	{part: "vmtest", parts: []string{"hostclient", "initramfs", "vmm"}, modules: []string{errdefs, vsock, xsys, xsync, runtimeSpec}},
}

func TestImportArrows(t *testing.T) {
	for _, arrow := range arrows {
		allowed := []string{own(arrow.part)}
		for _, part := range arrow.parts {
			allowed = append(allowed, own(part))
		}
		allowed = append(allowed, arrow.modules...)
		for _, p := range list(t, "linux", "./"+arrow.part+"/...") {
			for _, imported := range p.Imports {
				foreign := !inside(imported, module)
				if standard(imported) || insideAny(imported, allowed) || foreign && arrow.anyModule {
					continue
				}
				t.Errorf("%s imports %s; %s may import only %q", p.ImportPath, imported, arrow.part, allowed)
			}
		}
	}
}

// standard says whether a package is of the standard library: only those have no dot in their first element. ("C" is cgo.)
func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

// TestNothingImportsCommands: what is worth importing belongs elsewhere.
func TestNothingImportsCommands(t *testing.T) {
	for _, p := range list(t, "linux", "./...") {
		for _, imported := range p.Imports {
			if inside(imported, own("cmd")) && !inside(p.ImportPath, own("cmd")) {
				t.Errorf("%s imports %s; nothing may import a command", p.ImportPath, imported)
			}
		}
	}
}

// TestHostDependencies looks through the whole dependencies of what a host program links.
func TestHostDependencies(t *testing.T) {
	forbidden := []string{
		own("agent"), own("vmm"), own("cmd"),
		"github.com/opencontainers/runc", "github.com/opencontainers/cgroups", "github.com/opencontainers/selinux", "github.com/vishvananda", "github.com/sirupsen", "google.golang.org",
	}
	for _, goos := range []string{"linux", "darwin", "windows"} {
		for _, p := range list(t, goos, "./hostclient/...", "./protocol/...") {
			for _, dep := range p.Deps {
				if insideAny(dep, forbidden) || dep == "C" {
					t.Errorf("%s depends on %s on %s", p.ImportPath, dep, goos)
				}
			}
		}
	}
}

// TestBuildsElsewhere builds what a host program links for the other platforms, without cgo.
func TestBuildsElsewhere(t *testing.T) {
	for _, goos := range []string{"darwin", "windows"} {
		cmd := exec.CommandContext(t.Context(), "go", "build", "./hostclient/...", "./protocol/...")
		cmd.Env = environment(goos)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("GOOS=%s go build: %v\n%s", goos, err, out)
		}
	}
}

// TestWhoStartsProcesses keeps os/exec out of the library parts: a library that is linked into a host program starts no processes, and the agent has its own
// ways, which know how to reap.
func TestWhoStartsProcesses(t *testing.T) {
	for _, part := range []string{"protocol", "hostclient", "initramfs", "agent"} {
		for _, p := range list(t, "linux", "./"+part+"/...") {
			if slices.Contains(p.Imports, "os/exec") {
				t.Errorf("%s imports os/exec", p.ImportPath)
			}
		}
	}
}
