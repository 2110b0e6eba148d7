{{- define "llm-router.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* Shorter than the 63 characters of a name, so that "-node" has its place behind it. */}}
{{- define "llm-router.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "llm-router.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "llm-router.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "llm-router.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: {{ include "llm-router.name" . }}
{{- end -}}

{{- define "llm-router.selector" -}}
app.kubernetes.io/name: {{ include "llm-router.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "llm-router.routerSelector" -}}
{{ include "llm-router.selector" . }}
app.kubernetes.io/component: router
{{- end -}}

{{- define "llm-router.nodeSelector" -}}
{{ include "llm-router.selector" . }}
app.kubernetes.io/component: node
{{- end -}}

{{- define "llm-router.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "llm-router.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "llm-router.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "llm-router.secretName" -}}
{{- required "secret.name is needed: a Secret with the database's URL and the join token, see values.yaml" .Values.secret.name -}}
{{- end -}}

{{/* The image's own user; volumes of a cluster are made its group's. */}}
{{- define "llm-router.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "llm-router.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "llm-router.routerHome" -}}
{{- toYaml (default (dict "emptyDir" (dict "sizeLimit" "100Gi")) .Values.router.home) -}}
{{- end -}}

{{- define "llm-router.nodeHome" -}}
{{- toYaml (default (dict "hostPath" (dict "path" "/var/lib/llm-router-node" "type" "DirectoryOrCreate")) .Values.node.home) -}}
{{- end -}}
