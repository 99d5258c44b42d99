//go:build linux

package rootfs

import (
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// FindProgram looks for a program as execvp(3) would, for a process with this environment and working directory, and says why it could not be executed: ENOENT or
// another errno that keeps everybody from it, EACCES if it is no regular file or nobody may execute it. What depends on who asks is left to execve(2).
func (d *Dir) FindProgram(name string, env []string, cwd string) error {
	if strings.Contains(name, "/") {
		return d.executable(name, cwd)
	}
	result := error(syscall.ENOENT)
	for _, dir := range strings.Split(pathOf(env), ":") {
		if dir == "" {
			continue // an empty element is the working directory, which libcontainer does not search either
		}
		err := d.executable(path.Join(dir, name), cwd)
		if err == nil {
			return nil
		}
		if err == syscall.EACCES {
			result = err
		}
	}
	return result
}

// pathOf gives the last PATH of an environment.
func pathOf(env []string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(env[i], "PATH="); ok {
			return v
		}
	}
	return ""
}

func (d *Dir) executable(name, cwd string) error {
	if !path.IsAbs(name) {
		name = path.Join("/", cwd, name)
	}
	st, err := d.Stat(name)
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0 {
		return syscall.EACCES
	}
	return nil
}
