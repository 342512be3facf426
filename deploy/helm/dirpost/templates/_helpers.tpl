{{- define "dirpost.name" -}}
{{- printf "%s" (ternary .Release.Name (printf "%s-dirpost" .Release.Name) (contains "dirpost" .Release.Name)) | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "dirpost.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}

{{- define "dirpost.selector" -}}
app.kubernetes.io/name: dirpost
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "dirpost.labels" -}}
{{ include "dirpost.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/*
The settings of a group of nodes: a dict of root and node, as YAML. What the group says
counts, also 0 and [], which sprig's merge would take for nothing.
*/}}
{{- define "dirpost.node" -}}
{{- $node := deepCopy .root.Values.nodeDefaults -}}
{{- range $key, $value := .node -}}
{{- if eq $key "service" -}}
{{- range $k, $v := $value -}}
{{- $_ := set $node.service $k $v -}}
{{- end -}}
{{- else -}}
{{- $_ := set $node $key $value -}}
{{- end -}}
{{- end -}}
{{- toYaml $node -}}
{{- end -}}

{{/* The listeners of a group, as YAML: those of its roles. */}}
{{- define "dirpost.listeners" -}}
{{- $role := dict "smtp" "mx" "submission" "msa" "imap" "imap" "pop3" "pop" "http" "http" -}}
{{- $mine := dict -}}
{{- $roles := .roles -}}
{{- range $name, $l := .root.Values.listeners -}}
{{- if or (empty $roles) (has (get $role $l.protocol) $roles) -}}
{{- $_ := set $mine $name $l -}}
{{- end -}}
{{- end -}}
{{- toYaml $mine -}}
{{- end -}}

{{- define "dirpost.config" -}}
{{- $config := required "config: the text of dirpost.toml, without [[listener]]: --set-file config=dirpost.toml" .Values.config -}}
{{- if regexMatch "(?m)^\\s*\\[\\[\\s*listener\\s*\\]\\]" $config -}}
{{- fail "config: no [[listener]] here: the chart writes them of the values listeners, proxies and statusPort" -}}
{{- end -}}
{{ $config | trim }}

# Of the values listeners, proxies and statusPort.
{{- range $name, $l := .Values.listeners }}
[[listener]]
address = "[::]:{{ int $l.port }}"
protocol = {{ $l.protocol | quote }}
tls = {{ $l.tls | quote }}
{{- if and $.Values.proxies (ne $l.protocol "http") }}
proxies = {{ $.Values.proxies | toJson }}
{{- end }}
{{- end }}
[[listener]]
address = "[::]:{{ int .Values.statusPort }}"
protocol = "status"
tls = "off"
{{ end -}}

{{- define "dirpost.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "dirpost.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Secrets as volumes: a dict of root and the names of secrets. */}}
{{- define "dirpost.secretVolumes" -}}
{{- range $name := .names }}
{{- with get $.root.Values.secrets $name | required (printf "secrets: there is no %q, which a group of nodes names" $name) }}
- name: secret-{{ $name }}
  secret:
    secretName: {{ .secretName | quote }}
    # For the group of the pod; the server refuses a secret that everybody may read.
    defaultMode: 0440
{{- end }}
{{- end }}
{{- end -}}

{{- define "dirpost.secretMounts" -}}
{{- range $name := .names }}
{{- with get $.root.Values.secrets $name }}
- {name: secret-{{ $name }}, mountPath: {{ .mountPath | quote }}, readOnly: true}
{{- end }}
{{- end }}
{{- end -}}
