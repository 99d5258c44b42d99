package initramfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// resolve returns the wanted modules and all that they need, each once and
// behind what it needs: the order in which they can be loaded.
func (ix *moduleIndex) resolve(wanted []string, t target) ([]*module, error) {
	r := resolver{index: ix, target: t, state: make(map[string]visitState)}
	for _, name := range wanted {
		if err := r.want(normalise(name)); err != nil {
			return nil, err
		}
	}
	return r.order, nil
}

// moduleIndex knows the modules of one lib/modules/VERSION directory by name.
type moduleIndex struct {
	dir     string
	files   map[string]string // name → host path
	builtin map[string]bool
}

func indexModules(dir string) (*moduleIndex, error) {
	ix := &moduleIndex{dir: dir, files: make(map[string]string)}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, ok := moduleName(d.Name()); ok && !d.IsDir() {
			ix.addFile(name, p)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("modules: %w", err)
	}
	if len(ix.files) == 0 {
		return nil, fmt.Errorf("modules: no module lies in %s: is it a lib/modules/VERSION directory?", dir)
	}
	ix.builtin, err = readBuiltin(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("modules: %w", err)
	}
	return ix, nil
}

// addFile prefers updates/ when a name comes twice, as depmod does; else the
// first in lexical order, which is the order of the walk.
func (ix *moduleIndex) addFile(name, p string) {
	old, ok := ix.files[name]
	if ok && (ix.isUpdate(old) || !ix.isUpdate(p)) {
		return
	}
	ix.files[name] = p
}

// has says whether the module is in a file of its own: neither absent nor built in.
func (ix *moduleIndex) has(name string) bool { return ix.files[normalise(name)] != "" }

func (ix *moduleIndex) isUpdate(p string) bool {
	rel, err := filepath.Rel(ix.dir, p)
	return err == nil && strings.HasPrefix(filepath.ToSlash(rel), "updates/")
}

// moduleName returns the module that a file called base holds.
func moduleName(base string) (string, bool) {
	for _, suffix := range []string{".ko", ".ko.gz", ".ko.xz", ".ko.zst"} {
		if name, ok := strings.CutSuffix(base, suffix); ok && name != "" {
			return normalise(name), true
		}
	}
	return "", false
}

// readBuiltin reads a modules.builtin file; there may be none.
func readBuiltin(file string) (map[string]bool, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	builtin := make(map[string]bool)
	for _, line := range strings.Fields(string(data)) {
		if name, ok := moduleName(path.Base(line)); ok {
			builtin[name] = true
		}
	}
	return builtin, nil
}

type visitState int

const (
	visiting visitState = iota + 1
	visited
)

// resolver walks dependencies depth first.
type resolver struct {
	index  *moduleIndex
	target target
	state  map[string]visitState
	order  []*module
}

func (r *resolver) want(name string) error {
	if r.index.builtin[name] && r.index.files[name] == "" {
		return nil
	}
	file, ok := r.index.files[name]
	if !ok {
		return fmt.Errorf("module %s is neither in %s nor built into its kernel", name, r.index.dir)
	}
	switch r.state[name] {
	case visited:
		return nil
	case visiting:
		return fmt.Errorf("module %s depends on itself", name)
	}
	r.state[name] = visiting
	if err := r.visit(name, file); err != nil {
		return err
	}
	r.state[name] = visited
	return nil
}

func (r *resolver) visit(name, file string) error {
	m, err := readModule(name, file)
	if err != nil {
		return err
	}
	if err := r.checkRelease(m); err != nil {
		return err
	}
	for _, soft := range m.info.softPre {
		if err := r.wantSoft(soft); err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	for _, dep := range m.info.depends {
		if err := r.want(dep); err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	r.order = append(r.order, m)
	return nil
}

// wantSoft takes what a "softdep pre" means, if it is there. Such names are
// often those of algorithms, for which the kernel would run modprobe; the guest
// has none, so the algorithm's portable module is taken.
func (r *resolver) wantSoft(name string) error {
	algorithm := strings.TrimPrefix(name, "crypto_")
	for _, candidate := range []string{name, algorithm, algorithm + "_generic"} {
		if r.index.builtin[candidate] {
			return nil
		}
		if r.index.files[candidate] == "" {
			continue
		}
		if r.state[candidate] == visiting {
			return nil // a preference cannot be a cycle
		}
		return r.want(candidate)
	}
	return nil
}

// checkRelease compares a module with the kernel, or else with the first
// module: a mixture is refused by the guest's kernel with no more than ENOEXEC.
func (r *resolver) checkRelease(m *module) error {
	if r.target.release != "" && m.info.release != r.target.release {
		return fmt.Errorf("module %s is for kernel %s, but %s is %s",
			m.name, orUnknown(m.info.release), r.target.path, r.target.release)
	}
	if len(r.order) > 0 && m.info.release != r.order[0].info.release {
		return fmt.Errorf("module %s is for kernel %s, but module %s is for %s",
			m.name, orUnknown(m.info.release), r.order[0].name, orUnknown(r.order[0].info.release))
	}
	return nil
}

func orUnknown(release string) string {
	if release == "" {
		return "(unknown)"
	}
	return release
}
