{{- define "celeriac.name" -}}
{{- printf "%s" (ternary .Release.Name (printf "%s-celeriac" .Release.Name) (contains "celeriac" .Release.Name)) | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "celeriac.selector" -}}
app.kubernetes.io/name: celeriac-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "celeriac.labels" -}}
{{ include "celeriac.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "celeriac.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "celeriac.serviceAccount" -}}
{{ ternary (default (include "celeriac.name" .) .Values.serviceAccount.name) (default "default" .Values.serviceAccount.name) .Values.serviceAccount.create }}
{{- end -}}

{{- define "celeriac.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "celeriac.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
