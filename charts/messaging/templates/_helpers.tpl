{{- define "messaging.labels" -}}
app.kubernetes.io/name: messaging
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "messaging.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- /* What the chart knows of every worker: image, settings, the folder of the store. */ -}}
{{- define "messaging.worker" -}}
image: {{ include "messaging.image" . }}
env:
  - {name: MESSAGING_DATA_DIR, value: /data}
  {{- range $name, $value := .Values.env }}
  - {name: {{ $name }}, value: {{ $value | quote }}}
  {{- end }}
{{- with .Values.secretName }}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
podTemplate:
  spec:
    securityContext: {fsGroup: 65532}
    containers:
      - name: worker
        volumeMounts:
          - {name: data, mountPath: /data}
    volumes:
      - name: data
        {{- if .Values.persistence.existingClaim }}
        persistentVolumeClaim: {claimName: {{ .Values.persistence.existingClaim }}}
        {{- else }}
        emptyDir: {}
        {{- end }}
{{- end -}}
