package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const chartDir = "../../deploy/helm/dirpost"

// manifest is what is looked at of an object of the chart.
type manifest struct {
	Kind     string
	Metadata struct {
		Name        string
		Annotations map[string]string
	}
	Data map[string]string
	Spec struct {
		Replicas              int
		ExternalTrafficPolicy string
		Ports                 []struct{ Port int }
		Template              struct{ Spec podSpec }
	}
}

// podSpec is what is looked at of pods.
type podSpec struct {
	AutomountServiceAccountToken *bool
	SecurityContext              struct {
		RunAsNonRoot   bool
		RunAsUser      int
		FSGroup        int
		SeccompProfile struct{ Type string }
		Sysctls        []struct{ Name, Value string }
	}
	Containers []struct {
		Image           string
		Args            []string
		Ports           []struct{ ContainerPort int }
		SecurityContext struct {
			AllowPrivilegeEscalation *bool
			ReadOnlyRootFilesystem   bool
			Capabilities             struct{ Drop []string }
		}
		ReadinessProbe, LivenessProbe *struct{ HTTPGet struct{ Path string } }
		VolumeMounts                  []struct{ Name, MountPath string }
	}
	Volumes []struct {
		Name   string
		Secret *struct {
			SecretName  string
			DefaultMode int
		}
	}
}

// secrets are the Secrets that the pods see.
func (p podSpec) secrets() (names []string) {
	for _, v := range p.Volumes {
		if v.Secret != nil {
			names = append(names, v.Secret.SecretName)
		}
	}
	slices.Sort(names)
	return names
}

// chart renders the chart with some values, of which a key may be changed.
func chart(t *testing.T, change ...string) (all []manifest, complaints string) {
	t.Helper()
	values := mustRead(t, filepath.Join(chartDir, "ci/values.yaml"))
	if len(change) > 0 {
		if !strings.Contains(values, change[0]) {
			t.Fatalf("the values have no %q", change[0])
		}
		values = strings.Replace(values, change[0], change[1], 1)
	}
	complaints = checkRecipe(t, &all, "chart", chartDir, mustWrite(t, filepath.Join(t.TempDir(), "values.yaml"), values, 0o600))
	return all, complaints
}

// find is the object of a kind with a name.
func find(t *testing.T, all []manifest, kind, name string) manifest {
	t.Helper()
	i := slices.IndexFunc(all, func(m manifest) bool { return m.Kind == kind && m.Metadata.Name == name })
	if i < 0 {
		t.Fatalf("there is no %s %s", kind, name)
	}
	return all[i]
}

// TestChart: Helm's linter finds no fault with the chart, what it renders is what
// Kubernetes takes, the configuration in it is good, and each group of nodes has the
// ports and the secrets of its roles.
func TestChart(t *testing.T) {
	t.Parallel()
	all, complaints := chart(t)
	if complaints != "" {
		t.Fatal(complaints)
	}
	text := find(t, all, "ConfigMap", "mail-dirpost").Data["dirpost.toml"]
	migrates := find(t, all, "ConfigMap", "mail-dirpost-migrate")
	if migrates.Data["dirpost.toml"] != text {
		t.Error("the job that migrates has another configuration")
	}
	f := chartConfig(t, text)
	job := find(t, all, "Job", "mail-dirpost-migrate")
	for _, m := range []manifest{migrates, job} {
		if m.Metadata.Annotations["helm.sh/hook"] != "pre-install,pre-upgrade" {
			t.Errorf("%s %s is not there before the nodes: %v", m.Kind, m.Metadata.Name, m.Metadata.Annotations)
		}
	}
	powerless(t, job)
	if got := job.Spec.Template.Spec.secrets(); !slices.Equal(got, []string{"dirpost-database-owner"}) {
		t.Errorf("the job that migrates sees %v", got)
	}
	for group, want := range map[string]struct {
		roles   []string
		secrets []string
		policy  string // of traffic to its service, "" if it has none
	}{
		"mx":    {[]string{"mx"}, []string{"dirpost-database", "dirpost-tls"}, "Cluster"},
		"main":  {[]string{"msa", "imap", "pop", "http", "queue", "directory"}, []string{"dirpost-database", "dirpost-directory", "dirpost-sealing", "dirpost-tls"}, "Local"},
		"queue": {[]string{"queue"}, []string{"dirpost-database", "dirpost-directory", "dirpost-sealing", "dirpost-tls"}, ""},
	} {
		d := find(t, all, "Deployment", "mail-dirpost-"+group)
		powerless(t, d)
		pod := d.Spec.Template.Spec
		if got := pod.secrets(); !slices.Equal(got, want.secrets) {
			t.Errorf("%s sees %v, want %v", group, got, want.secrets)
		}
		c := pod.Containers[0]
		if got := c.Args; !slices.Equal(got, []string{"serve", "--roles", strings.Join(want.roles, ",")}) {
			t.Errorf("%s runs %q", group, got)
		}
		var ports []int
		for _, p := range c.Ports {
			ports = append(ports, p.ContainerPort)
		}
		slices.Sort(ports)
		listens := f.portsOf(t, want.roles)
		status := append(slices.Clone(listens), 8080)
		if slices.Sort(status); !slices.Equal(ports, status) {
			t.Errorf("%s has the ports %v, and listens on %v", group, ports, status)
		}
		if c.ReadinessProbe.HTTPGet.Path != "/healthz" || c.LivenessProbe.HTTPGet.Path != "/livez" {
			t.Errorf("%s: probes of %+v, %+v", group, c.ReadinessProbe, c.LivenessProbe)
		}
		if want.policy == "" {
			if slices.ContainsFunc(all, func(m manifest) bool { return m.Kind == "Service" && m.Metadata.Name == "mail-dirpost-"+group }) {
				t.Errorf("%s has a service without a port", group)
			}
			continue
		}
		service := find(t, all, "Service", "mail-dirpost-"+group)
		ports = nil
		for _, p := range service.Spec.Ports {
			ports = append(ports, p.Port)
		}
		if slices.Sort(ports); service.Spec.ExternalTrafficPolicy != want.policy || !slices.Equal(ports, listens) {
			t.Errorf("the service of %s has the ports %v, and traffic %q", group, ports, service.Spec.ExternalTrafficPolicy)
		}
	}
}

// chartConfig has `dirpost config check` look at a configuration of the chart, with
// Secrets as the values name them.
func chartConfig(t *testing.T, text string) *File {
	t.Helper()
	secrets := t.TempDir()
	for _, name := range []string{"sealing/key", "directory/password"} {
		if err := os.MkdirAll(filepath.Join(secrets, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, filepath.Join(secrets, name), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", 0o440)
	}
	certificates, _ := mountedCertificate(t)
	path, f := placed(t, text, "/run/secrets", secrets, "/etc/dirpost/tls", certificates)
	configCheck(t, path, "--offline")
	for _, l := range f.Listener {
		if behind := len(l.Proxies) > 0; behind != (l.Protocol != "http" && l.Protocol != "status") {
			t.Errorf("listener %s: proxies %v", l.Address, l.Proxies)
		}
	}
	return f
}

// powerless checks that the pods of an object can do what they are for and nothing else.
func powerless(t *testing.T, m manifest) {
	t.Helper()
	pod := m.Spec.Template.Spec
	s := pod.SecurityContext
	if !s.RunAsNonRoot || s.RunAsUser != 65532 || s.FSGroup != 65532 || s.SeccompProfile.Type != "RuntimeDefault" || pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Errorf("%s: %+v", m.Metadata.Name, s)
	}
	if m.Kind == "Deployment" && (len(s.Sysctls) != 1 || fmt.Sprint(s.Sysctls[0]) != "{net.ipv4.ip_unprivileged_port_start 0}") {
		t.Errorf("%s cannot open its ports: %v", m.Metadata.Name, s.Sysctls)
	}
	for _, c := range pod.Containers {
		if c.SecurityContext.AllowPrivilegeEscalation == nil || *c.SecurityContext.AllowPrivilegeEscalation || !c.SecurityContext.ReadOnlyRootFilesystem || !slices.Equal(c.SecurityContext.Capabilities.Drop, []string{"ALL"}) {
			t.Errorf("%s: %+v", m.Metadata.Name, c.SecurityContext)
		}
	}
	for _, v := range pod.Volumes {
		if v.Secret != nil && v.Secret.DefaultMode&0o007 != 0 {
			t.Errorf("%s: everybody may read %s", m.Metadata.Name, v.Secret.SecretName)
		}
	}
}

// TestChartComplains: values that cannot be meant are refused before anything is sent,
// in words that say what to do.
func TestChartComplains(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ old, text, want string }{
		"misspelt":       {"proxies:", "proxeis:", "proxeis"},
		"no role":        {"roles: [queue]", "roles: [smtp]", "roles"},
		"no such secret": {"roles: [queue]", "roles: [queue]\n    secrets: [tsl]", `there is no "tsl"`},
		"config in vain": {"config: |", "configuration: |", "configuration"},
		"listeners":      {"  [log]", "  [[listener]]\n  address = \"[::]:26\"\n  [log]", "the chart writes them"},
		"no network":     {`"192.0.2.0/24"`, `"everywhere"`, "proxies"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, complaints := chart(t, c.old, c.text); !strings.Contains(complaints, c.want) {
				t.Errorf("the chart says %q, want %q", complaints, c.want)
			}
		})
	}
	if complaints := checkRecipe(t, nil, "chart", chartDir); !strings.Contains(complaints, "--set-file config=") {
		t.Errorf("without values the chart says %q", complaints)
	}
}

// TestChartSaysNothing: a group of nodes that says 0 or nothing gets that, and not the
// defaults.
func TestChartSaysNothing(t *testing.T) {
	t.Parallel()
	all, complaints := chart(t, "replicas: 1\n", "replicas: 0\n    secrets: []\n")
	if complaints != "" {
		t.Fatal(complaints)
	}
	d := find(t, all, "Deployment", "mail-dirpost-queue")
	if secrets := d.Spec.Template.Spec.secrets(); d.Spec.Replicas != 0 || len(secrets) > 0 {
		t.Errorf("%d nodes with the secrets %v", d.Spec.Replicas, secrets)
	}
}

// TestChartMistakes: what the API server would refuse, or take and never run, is found
// when the chart is checked.
func TestChartMistakes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ file, old, text, want string }{
		"misspelt field":  {"deployment.yaml", "replicas:", "replica:", `unknown field "spec.replica"`},
		"missing field":   {"deployment.yaml", "- name: dirpost\n          image:", "- image:", "containers[0].name is missing"},
		"wrong type":      {"poddisruptionbudget.yaml", "maxUnavailable: 1", "maxUnavailable: [1]", "maxUnavailable"},
		"no such port":    {"deployment.yaml", "/healthz, port: status", "/healthz, port: health", "a probe asks a port"},
		"no such volume":  {"deployment.yaml", "- name: run\n          emptyDir", "- name: runs\n          emptyDir", "there is no volume run"},
		"selects nothing": {"service.yaml", "component: {{ $group }}\n  ports", "component: other\n  ports", "selects no pods"},
		"no config map":   {"migrate.yaml", "configMap: {name: {{ include \"dirpost.name\" . }}-migrate}", "configMap: {name: other}", "no config map other"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "dirpost")
			if err := os.CopyFS(dir, os.DirFS(chartDir)); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "templates", c.file)
			text := mustRead(t, file)
			if !strings.Contains(text, c.old) {
				t.Fatalf("%s has no %q", c.file, c.old)
			}
			mustWrite(t, file, strings.Replace(text, c.old, c.text, 1), 0o644)
			if complaints := checkRecipe(t, nil, "chart", dir, filepath.Join(dir, "ci/values.yaml")); !strings.Contains(complaints, c.want) {
				t.Errorf("the check says %q, want %q", complaints, c.want)
			}
		})
	}
}
