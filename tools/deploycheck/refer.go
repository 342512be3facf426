package main

import (
	"fmt"
	"slices"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// objects are what a chart comes to.
type objects []object

// each calls f for all objects of one type.
func each[T any](all objects, f func(T)) {
	for _, o := range all {
		if t, ok := o.typed.(T); ok {
			f(t)
		}
	}
}

// pod is a template of pods, and whose.
type pod struct {
	owner    string
	template core.PodTemplateSpec
	runs     bool // for good, so that services and budgets may be meant for it
}

func (all objects) pods() []pod {
	var pods []pod
	each(all, func(d *apps.Deployment) { pods = append(pods, pod{"deployment " + d.Name, d.Spec.Template, true}) })
	each(all, func(j *batch.Job) { pods = append(pods, pod{"job " + j.Name, j.Spec.Template, false}) })
	each(all, func(p *core.Pod) {
		pods = append(pods, pod{"pod " + p.Name, core.PodTemplateSpec{ObjectMeta: p.ObjectMeta, Spec: p.Spec}, false})
	})
	return pods
}

// check says which names nobody has: an object that refers to nothing is no error to
// an API server.
func (all objects) check() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	configs := map[string]*core.ConfigMap{}
	names := map[string]bool{}
	for _, o := range all {
		m := o.typed.(meta.Object)
		id := o.typed.GetObjectKind().GroupVersionKind().Kind + " " + m.GetName()
		if names[id] {
			bad("%s: there are two", id)
		}
		names[id] = true
		if c, ok := o.typed.(*core.ConfigMap); ok {
			configs[c.Name] = c
		}
	}
	pods := all.pods()
	for _, p := range pods {
		errs = append(errs, p.check(configs)...)
	}
	each(all, func(d *apps.Deployment) {
		if !matches(d.Spec.Selector, d.Spec.Template.Labels) {
			bad("deployment %s: the selector is not for its own pods", d.Name)
		}
	})
	selects := func(who string, s *meta.LabelSelector) (chosen []pod) {
		for _, p := range pods {
			if p.runs && matches(s, p.template.Labels) {
				chosen = append(chosen, p)
			}
		}
		if len(chosen) == 0 {
			bad("%s: selects no pods", who)
		}
		return chosen
	}
	each(all, func(b *policy.PodDisruptionBudget) { selects("budget "+b.Name, b.Spec.Selector) })
	each(all, func(n *networking.NetworkPolicy) { selects("policy "+n.Name, &n.Spec.PodSelector) })
	each(all, func(s *core.Service) {
		for _, p := range selects("service "+s.Name, &meta.LabelSelector{MatchLabels: s.Spec.Selector}) {
			for _, port := range s.Spec.Ports {
				if !p.has(port.TargetPort) {
					bad("service %s: %s has no port %s", s.Name, p.owner, port.TargetPort.String())
				}
			}
		}
	})
	each(all, func(m *monitoring.ServiceMonitor) {
		found := false
		each(all, func(s *core.Service) {
			for _, e := range m.Spec.Endpoints {
				found = found || matches(&m.Spec.Selector, s.Labels) && slices.ContainsFunc(s.Spec.Ports, func(p core.ServicePort) bool { return p.Name == e.Port })
			}
		})
		if !found {
			bad("monitor %s: no service has its port", m.Name)
		}
	})
	return errs
}

// matches reports whether a selector is for these labels.
func matches(s *meta.LabelSelector, have map[string]string) bool {
	selector, err := meta.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(labels.Set(have))
}

// has reports whether the pod has a port, by name or number.
func (p pod) has(port intstr.IntOrString) bool {
	return slices.ContainsFunc(p.template.Spec.Containers, func(c core.Container) bool {
		return slices.ContainsFunc(c.Ports, func(have core.ContainerPort) bool {
			return port.Type == intstr.String && have.Name == port.StrVal || port.Type == intstr.Int && have.ContainerPort == port.IntVal
		})
	})
}

// check looks at what the containers of a pod refer to.
func (p pod) check(configs map[string]*core.ConfigMap) (errs []error) {
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf(p.owner+": "+format, args...))
	}
	for _, v := range p.template.Spec.Volumes {
		if v.ConfigMap == nil {
			continue
		}
		c, ok := configs[v.ConfigMap.Name]
		if !ok {
			bad("there is no config map %s", v.ConfigMap.Name)
			continue
		}
		for _, item := range v.ConfigMap.Items {
			if _, ok := c.Data[item.Key]; !ok {
				bad("config map %s has no key %s", c.Name, item.Key)
			}
		}
	}
	for _, c := range p.template.Spec.Containers {
		paths := map[string]bool{}
		for _, m := range c.VolumeMounts {
			if !slices.ContainsFunc(p.template.Spec.Volumes, func(v core.Volume) bool { return v.Name == m.Name }) {
				bad("there is no volume %s", m.Name)
			}
			if paths[m.MountPath] {
				bad("two volumes at %s", m.MountPath)
			}
			paths[m.MountPath] = true
		}
		for _, probe := range []*core.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
			switch {
			case probe == nil:
			case probe.HTTPGet != nil && !p.has(probe.HTTPGet.Port), probe.TCPSocket != nil && !p.has(probe.TCPSocket.Port):
				bad("a probe asks a port that is not there")
			}
		}
	}
	return errs
}
