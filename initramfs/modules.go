package initramfs

import (
	"bytes"
	"fmt"
)

// addModules adds the modules of spec with the lists that name them.
func (l *layout) addModules(spec Spec, t target) error {
	if len(spec.Modules)+len(spec.OnDemand) == 0 {
		return l.addList(ModuleListPath, nil)
	}
	if spec.ModulesDir == "" {
		return fmt.Errorf("modules are wanted (%s, …) but no modules directory is named", append(spec.Modules, spec.OnDemand...)[0])
	}
	ix, err := indexModules(spec.ModulesDir)
	if err != nil {
		return err
	}
	boot, err := ix.resolve(spec.Modules, t)
	if err != nil {
		return err
	}
	if err := l.addList(ModuleListPath, boot); err != nil {
		return err
	}
	for _, name := range spec.OnDemand {
		if !ix.has(name) {
			continue
		}
		mods, err := ix.resolve([]string{name}, t)
		if err != nil {
			return err
		}
		if err := l.addList(OnDemandDir+"/"+normalise(name), mods); err != nil {
			return err
		}
	}
	return nil
}

// addList adds modules, those that are not there yet, and the list of them all.
func (l *layout) addList(path string, mods []*module) error {
	var list bytes.Buffer
	for _, m := range mods {
		guest := ModulesDir + "/" + m.name + ".ko"
		fmt.Fprintln(&list, guest)
		new := m.member(guest)
		if old := l.members[new.Name]; old != nil && old.origin == new.origin {
			continue // another list has it too
		}
		if err := l.add(new); err != nil {
			return err
		}
	}
	return l.addFiles([]File{{Path: path, Content: list.Bytes(), Mode: 0o644}})
}
