{{/* Labels that every object has. */}}
{{- define "herald.labels" -}}
app.kubernetes.io/part-of: herald
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The image of a program: (dict "root" $ "program" "speaker"). */}}
{{- define "herald.image" -}}
{{- $values := .root.Values }}
{{- $own := get (get $values .program) "image" }}
{{- $own | default (printf "%s/herald-%s:%s" $values.image.registry .program ($values.image.tag | default .root.Chart.AppVersion)) }}
{{- end }}

{{/* The variables that both programs have, beside those of `env`: (dict "root" $ "env" .Values.speaker.env). */}}
{{- define "herald.env" -}}
{{- $values := .root.Values }}
{{- $env := dict }}
{{- if ne $values.configSource "crd" }}{{ $_ := set $env "HERALD_CONFIG_SOURCE" $values.configSource }}{{ end }}
{{- if $values.observe }}{{ $_ := set $env "HERALD_OBSERVE" "true" }}{{ end }}
{{- if ne $values.log.level "info" }}{{ $_ := set $env "HERALD_LOG_LEVEL" $values.log.level }}{{ end }}
{{- if ne $values.log.format "logfmt" }}{{ $_ := set $env "HERALD_LOG_FORMAT" $values.log.format }}{{ end }}
{{- if ne $values.metrics.auth "none" }}{{ $_ := set $env "HERALD_METRICS_AUTH" $values.metrics.auth }}{{ end }}
{{- if $values.metrics.perService }}{{ $_ := set $env "HERALD_METRICS_PER_SERVICE" "true" }}{{ end }}
{{- if $values.metrics.tlsSecret }}
{{- $_ := set $env "HERALD_METRICS_TLS_CERT_FILE" "/etc/herald/metrics-tls/tls.crt" }}
{{- $_ := set $env "HERALD_METRICS_TLS_KEY_FILE" "/etc/herald/metrics-tls/tls.key" }}
{{- end }}
{{- range $name, $value := merge (deepCopy .env) $env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{/* Whether the metrics and probes are served over TLS. */}}
{{- define "herald.tls" -}}
{{- if or (ne .Values.metrics.auth "none") .Values.metrics.tlsSecret }}true{{ end }}
{{- end }}

{{/* The probes, alike in both programs. */}}
{{- define "herald.probes" -}}
{{- $scheme := ternary "scheme: HTTPS, " "" (eq (include "herald.tls" .) "true") -}}
livenessProbe: {httpGet: { {{- $scheme }}path: /healthz, port: metrics}, periodSeconds: 10, failureThreshold: 3}
readinessProbe: {httpGet: { {{- $scheme }}path: /readyz, port: metrics}, periodSeconds: 2, failureThreshold: 2}
{{- end }}

{{/*
Objects of the project's config/, which files/ links to: (dict "root" $ "file" "monitoring/alerts.yaml" "labels" dict).
They get the chart's labels, and this release's namespace in place of herald-system. What is said there is said once.
*/}}
{{- define "herald.objects" -}}
{{- $root := .root }}
{{- $text := $root.Files.Get (printf "files/%s" .file) }}
{{- if not $text }}{{ fail (printf "files/%s is not in the chart" .file) }}{{ end }}
{{- range regexSplit "(?m)^---$" ($text | replace "herald-system" $root.Release.Namespace) -1 }}
{{- $object := fromYaml . }}
{{- if $object }}
{{- if $object.Error }}{{ fail (printf "%s: %s" $.file $object.Error) }}{{ end }}
{{- $_ := set $object.metadata "labels" (merge (default dict $object.metadata.labels) (fromYaml (include "herald.labels" $root)) (default dict $.labels)) }}
{{- if not (or (hasPrefix "Cluster" $object.kind) (hasPrefix "ValidatingAdmission" $object.kind)) }}
{{- $_ := set $object.metadata "namespace" $root.Release.Namespace }}
{{- end }}
---
{{ toYaml $object }}
{{- end }}
{{- end }}
{{- end }}
