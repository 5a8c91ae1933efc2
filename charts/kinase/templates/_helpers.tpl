{{/* Names */}}

{{- define "kinase.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Prefix of the names of all objects; the longest suffix is "-operator". */}}
{{- define "kinase.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- $name := include "kinase.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "kinase.operator" -}}
{{ include "kinase.fullname" . }}-operator
{{- end }}

{{- define "kinase.store" -}}
{{ include "kinase.fullname" . }}-store
{{- end }}

{{- define "kinase.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "kinase.operator" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Labels. Call with (list $ COMPONENT). What changes with the chart's version stays out of
     selectors and pods, so that an upgrade restarts only what it changes. */}}

{{- define "kinase.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "kinase.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "kinase.labels" -}}
{{- $root := index . 0 -}}
{{ include "kinase.selector" . }}
app.kubernetes.io/part-of: kinase
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Images. Call with (list $ IMAGE). */}}

{{- define "kinase.image" -}}
{{- $root := index . 0 }}
{{- $image := index . 1 }}
{{- $registry := $root.Values.global.imageRegistry | trimSuffix "/" }}
{{- if $registry }}{{ $registry }}/{{ end }}
{{- $image.repository }}
{{- if $image.digest }}
{{- with $image.tag }}:{{ . }}{{ end }}@{{ $image.digest }}
{{- else }}:{{ default $root.Chart.AppVersion $image.tag }}
{{- end }}
{{- end }}

{{- define "kinase.pull" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* What Pod Security `restricted` asks for, and more. */}}

{{- define "kinase.podSecurity" -}}
runAsNonRoot: true
{{- range $key := list "runAsUser" "runAsGroup" "fsGroup" }}
{{- with index $.Values.podSecurity $key }}
{{ $key }}: {{ int64 . }}
{{- end }}
{{- end }}
{{- if .Values.podSecurity.fsGroup }}
# else a volume with many files is walked through at every start
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "kinase.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
{{- end }}

{{/* The default store for the operator, including the embedded server. */}}

{{- define "kinase.defaultStore" -}}
{{- $store := .Values.store }}
{{- $embedded := $store.embedded.enabled }}
{{- if $embedded }}
uri: s3://{{ $store.embedded.bucket }}/experiments
endpoint: http://{{ include "kinase.store" . }}.{{ .Release.Namespace }}.svc:7070
region: us-east-1
{{- else }}
uri: {{ $store.uri | quote }}
endpoint: {{ $store.endpoint | quote }}
region: {{ $store.region | quote }}
{{- end }}
role: {{ $store.roleArn | quote }}
audience: {{ $store.tokenAudience | quote }}
sts: {{ $store.stsEndpoint | quote }}
{{- if $store.credentialsSecret }}
secret: {{ $store.credentialsSecret }}
{{- else if or $embedded $store.credentials.accessKeyId }}
secret: kinase-store
{{- else }}
secret: ""
{{- end }}
{{- if $store.caConfigMap }}
ca: {{ $store.caConfigMap }}
{{- else if $store.ca }}
ca: kinase-store-ca
{{- else }}
ca: ""
{{- end }}
{{- end }}

{{/* How Prometheus scrapes. Call with a monitor's values. */}}

{{- define "kinase.scrape" -}}
honorLabels: true {{- /* the operator exports experiments in other namespaces */}}
interval: {{ .interval }}
scrapeTimeout: {{ .scrapeTimeout }}
{{- range $key := list "relabelings" "metricRelabelings" }}
{{- with index $ $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}
