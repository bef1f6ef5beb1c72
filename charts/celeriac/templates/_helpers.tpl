{{- define "celeriac.name" -}}
{{- $own := ternary .Release.Name (printf "%s-celeriac" .Release.Name) (contains "celeriac" .Release.Name) -}}
{{- .Values.fullnameOverride | default $own | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- /* Selectors are immutable in a Deployment: these never change. */ -}}
{{- define "celeriac.selector" -}}
app.kubernetes.io/name: celeriac-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "celeriac.valkeySelector" -}}
app.kubernetes.io/name: celeriac-valkey
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "celeriac.release" -}}
app.kubernetes.io/part-of: celeriac
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "celeriac.labels" -}}
{{ include "celeriac.selector" . }}
app.kubernetes.io/component: operator
{{ include "celeriac.release" . }}
{{- end -}}

{{- define "celeriac.valkeyLabels" -}}
{{ include "celeriac.valkeySelector" . }}
app.kubernetes.io/component: broker
{{ include "celeriac.release" . }}
{{- end -}}

{{- define "celeriac.testLabels" -}}
app.kubernetes.io/name: celeriac-test
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{ include "celeriac.release" . }}
{{- end -}}

{{- define "celeriac.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{- define "celeriac.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (ternary (include "celeriac.name" .) "default" .Values.serviceAccount.create) }}
{{- end -}}

{{- /* What every pod of the chart needs to get onto a node. */ -}}
{{- define "celeriac.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
