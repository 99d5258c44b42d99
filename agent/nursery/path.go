//go:build linux

package nursery

import "strings"

// defaultPath is searched when the environment has no PATH, as by execvp(3).
const defaultPath = "/bin:/usr/bin"

// candidates are the paths to try to execute, in their order: at least one. Entries of PATH that are not absolute are left out, since they would mean the working directory.
func candidates(r *Request) []string {
	if r.Program != "" {
		return []string{r.Program}
	}
	name := r.Args[0]
	if name == "" || strings.Contains(name, "/") {
		return []string{name}
	}
	var list []string
	for dir := range strings.SplitSeq(lookupEnv(r.Env, "PATH", defaultPath), ":") {
		if strings.HasPrefix(dir, "/") {
			list = append(list, strings.TrimRight(dir, "/")+"/"+name)
		}
	}
	if list == nil {
		return []string{""} // not found
	}
	return list
}

// lookupEnv gives the value of a variable, of which the last setting counts.
func lookupEnv(env []string, name, missing string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(env[i], name+"="); ok {
			return value
		}
	}
	return missing
}
