{{- define "messaging.labels" -}}
app.kubernetes.io/name: messaging
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: messaging
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "messaging.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{- /* What the chart knows of every worker: image, settings, the folder of the store. */ -}}
{{- define "messaging.worker" -}}
image: {{ include "messaging.image" . }}
env:
  - {name: MESSAGING_DATA_DIR, value: /data}
  {{- range $name, $value := .Values.env }}
  {{- /* toJson, since a template would write 1000000 as 1e+06 */}}
  - {name: {{ $name }}, value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}}
  {{- end }}
{{- with .Values.secretName }}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
podTemplate:
  spec:
    {{- with .Values.imagePullSecrets }}
    imagePullSecrets: {{- toYaml . | nindent 6 }}
    {{- end }}
    securityContext: {{- toYaml .Values.podSecurityContext | nindent 6 }}
    containers:
      - name: worker
        imagePullPolicy: {{ .Values.image.pullPolicy }}
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

{{- /* Lays the second value over the first, as the operator does; the answer is JSON: {"value": ...}. */ -}}
{{- define "messaging.layOver" -}}
{{- $own := index . 0 }}
{{- $over := index . 1 }}
{{- $result := $over }}
{{- if and (kindIs "map" $own) (kindIs "map" $over) }}
  {{- $result = deepCopy $own }}
  {{- range $key, $value := $over }}
    {{- $_ := set $result $key (include "messaging.layOver" (list (get $own $key) $value) | fromJson).value }}
  {{- end }}
{{- else if and (include "messaging.named" $own) (include "messaging.named" $over) }}
  {{- $byName := dict }}
  {{- $names := list }}
  {{- range concat $own $over }}
    {{- $names = append $names .name | uniq }}
    {{- $_ := set $byName .name (include "messaging.layOver" (list (get $byName .name) .) | fromJson).value }}
  {{- end }}
  {{- $result = list }}
  {{- range $names }}{{ $result = append $result (get $byName .) }}{{ end }}
{{- end }}
{{- dict "value" $result | toJson }}
{{- end -}}

{{- /* Says something if the value is a list of things that have names. */ -}}
{{- define "messaging.named" -}}
{{- if kindIs "slice" . }}
  {{- $named := true }}
  {{- range . }}{{ if not (and (kindIs "map" .) (hasKey . "name")) }}{{ $named = false }}{{ end }}{{ end }}
  {{- if $named }}yes{{ end }}
{{- end }}
{{- end -}}
