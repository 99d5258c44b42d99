//go:build linux

package rootfs

import (
	"bytes"
	"errors"
	"io/fs"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/user"

	"github.com/bellhop-vm/bellhop/agent/failure"
)

// maxAccounts bounds /etc/passwd and /etc/group, in bytes.
const maxAccounts = 4 << 20

// User is who a process runs as.
type User struct {
	UID, GID uint32
	Groups   []uint32
	Home     string
}

// LookupUser resolves a name: "web", or "web:staff". The groups are those that /etc/group gives it. A name that is not there is INVALID_ARGUMENT.
func (d *Dir) LookupUser(name string) (*User, error) {
	passwd, err := d.accounts("/etc/passwd")
	if err != nil {
		return nil, err
	}
	group, err := d.accounts("/etc/group")
	if err != nil {
		return nil, err
	}
	found, err := user.GetExecUser(name, nil, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return nil, failure.New(errdefs.ErrInvalidArgument, "no such user or group: %v", err)
	}
	u := &User{UID: uint32(found.Uid), GID: uint32(found.Gid), Home: found.Home}
	for _, g := range found.Sgids {
		u.Groups = append(u.Groups, uint32(g))
	}
	return u, nil
}

// Home gives the home directory of a uid, "/" if /etc/passwd has none.
func (d *Dir) Home(uid uint32) string {
	passwd, err := d.accounts("/etc/passwd")
	if err != nil {
		return "/"
	}
	users, err := user.ParsePasswdFilter(bytes.NewReader(passwd), func(u user.User) bool { return u.Uid == int(uid) })
	if err != nil || len(users) == 0 || users[0].Home == "" {
		return "/"
	}
	return users[0].Home
}

// accounts reads a file that may be missing.
func (d *Dir) accounts(path string) ([]byte, error) {
	b, err := d.ReadFile(path, maxAccounts)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}
