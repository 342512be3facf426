package main

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dirpost/directory/ldap"
)

// fileAccess is what a process may do with files: read some, make Unix sockets in
// some directories, write below others. Nothing else, and no program is started.
// All paths are absolute.
type fileAccess struct {
	read    []string // directories, with all that is below
	files   []string // single files
	sockets []string // directories in which sockets are made and replaced
	write   []string // directories in which files are made, changed and removed
}

// systemDirs are what the system keeps for every program: names, times, authorities.
// All of /etc is among them, since its files are replaced by others of the same name
// (resolv.conf with each lease of an address), and a rule is about the file that was
// there, not about its name. What of it is secret, permissions keep.
var systemDirs = []string{
	"/etc",
	"/usr/share/zoneinfo", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/usr/lib/ssl", "/var/lib/ca-certificates",
	"/proc", "/sys/fs/cgroup", "/sys/devices/system/cpu", // our own measures, and how many CPUs there are
}

// host is what the paths of a configuration depend on besides it.
type host struct {
	env     func(string) string
	resolve func(string) (string, error) // filepath.EvalSymlinks
}

// thisHost is the one that the process runs on.
var thisHost = host{os.Getenv, filepath.EvalSymlinks}

// fileAccess is what a node of f needs, whose configuration is at path: what it
// reads now and will read again after SIGHUP, and the directories of its sockets.
//
// Files are replaced by others of the same name: certificates are renewed, editors
// write anew. So the directory is readable that a file is in, and the one that a link
// leads to (/etc/letsencrypt/live). A file directly in the root directory, which all
// the rest is in too, stands for itself.
func (f *File) fileAccess(path string, h host) fileAccess {
	read := make(map[string]bool)
	for _, dir := range systemDirs {
		read[dir] = true
	}
	files := map[string]bool{"/dev/urandom": true}
	need := func(path string) {
		if path == "" {
			return
		}
		if abs, err := filepath.Abs(path); err == nil {
			path = abs
		}
		for _, p := range []string{path, h.target(path)} {
			if dir := filepath.Dir(p); dir != "/" {
				read[dir] = true
			} else {
				files[p] = true
			}
		}
	}
	for _, p := range []string{resolvConf, "/etc/hosts", "/etc/nsswitch.conf"} { // may be links to anywhere
		need(p)
	}
	need(path)
	for _, p := range f.paths() {
		need(p)
	}
	if dir := h.env("CREDENTIALS_DIRECTORY"); dir != "" {
		read[dir] = true
	}
	// What crypto/x509 and time look at.
	need(h.env("SSL_CERT_FILE"))
	for dir := range strings.SplitSeq(h.env("SSL_CERT_DIR"), ":") {
		if filepath.IsAbs(dir) {
			read[dir] = true
		}
	}
	for _, p := range f.databaseConfig().Files() {
		files[p] = true
		need(p)
	}
	// The home may be that of who has started us (setpriv, su without -), which we may
	// not enter: nothing is read there then, and no rule could be made.
	if home := h.env("HOME"); filepath.IsAbs(home) && home != "/" && h.mayEnter(home) {
		files[filepath.Join(home, ".pgpass")] = true
		read[filepath.Join(home, ".postgresql")] = true
	}
	a := fileAccess{read: slices.Sorted(maps.Keys(read)), files: slices.Sorted(maps.Keys(files))}
	for _, socket := range []string{f.Server.Socket, f.Auth.Socket.Path} {
		if dir := filepath.Dir(socket); socket != "" && !slices.Contains(a.sockets, dir) {
			a.sockets = append(a.sockets, dir)
		}
	}
	return a
}

// mayEnter reports whether a directory may be entered, if it is there.
func (h host) mayEnter(dir string) bool {
	_, err := h.resolve(filepath.Join(dir, ".pgpass"))
	return !errors.Is(err, fs.ErrPermission)
}

// target is where a path leads, itself if nowhere else.
func (h host) target(path string) string {
	if t, err := h.resolve(path); err == nil {
		return t
	}
	return path
}

// paths are the files that the configuration names.
func (f *File) paths() []string {
	var all []string
	for _, s := range f.secrets() {
		all = append(all, s.file())
	}
	for _, name := range f.names() {
		all = append(all, f.Directory[name].CA, f.Directory[name].Keytab.file())
	}
	for _, c := range f.TLS.Certificate {
		all = append(all, c.Chain, c.Key)
	}
	all = append(all, f.ACME.CA, f.Telemetry.CA, f.Auth.Page.Countries)
	all = append(all, f.Telemetry.Headers.file()) // of lines, not of one secret
	for _, o := range f.Auth.OAuth {
		all = append(all, o.CA)
		all = append(all, absolute(o.Discovery, o.Keys)...)
	}
	all = append(all, f.Auth.Certificates.CA...)
	all = append(all, f.Auth.Certificates.Intermediate...)
	return append(all, absolute(f.Auth.Certificates.CRL...)...)
}

// file is the path that a reference names, "" if it names none.
func (s Secret) file() string {
	if p, ok := strings.CutPrefix(s.String(), "file:"); ok {
		return p
	}
	return ""
}

// absolute are those of values that are paths, not URLs.
func absolute(values ...string) []string {
	return slices.DeleteFunc(slices.Clone(values), func(v string) bool { return !filepath.IsAbs(v) })
}

// secrets are the references of the configuration.
func (f *File) secrets() []Secret {
	all := []Secret{f.Server.SealingKey, f.MTA.SmarthostPassword, f.Auth.Kerberos.Keytab, f.ACME.MACKey}
	for _, name := range f.names() {
		d := f.Directory[name]
		all = append(all, d.BindPassword)
		if d.Bind == ldap.BindGSSAPI {
			all = append(all, d.Keytab)
		}
	}
	for _, o := range f.Auth.OAuth {
		all = append(all, o.ClientSecret)
	}
	return all
}
