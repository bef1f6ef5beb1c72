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

{{- /* What tells the items of a list apart: of a PodSpec as Kubernetes does, of a MessageQueue as its schema does. */ -}}
{{- define "messaging.identities" -}}
claims: [name]
containers: [name]
env: [name]
ephemeralContainers: [name]
hostAliases: [ip]
imagePullSecrets: [name]
initContainers: [name]
ports: [containerPort, protocol]
resourceClaims: [name]
schedules: [name]
schedulingGates: [name]
topologySpreadConstraints: [topologyKey, whenUnsatisfiable]
volumeDevices: [devicePath]
volumeMounts: [mountPath]
volumes: [name]
{{- end -}}

{{- /* Of each of these only one can be given. */ -}}
{{- define "messaging.eitherOr" -}}
- [value, valueFrom]
- [configMapKeyRef, fieldRef, fileKeyRef, resourceFieldRef, secretKeyRef]
- [exec, grpc, httpGet, tcpSocket]
{{- end -}}

{{- /*
Lays the second value of a field over the first, as the operator does; the third argument is the field's name.
The answer is JSON: {"value": ...}.
*/ -}}
{{- define "messaging.layOver" -}}
{{- $own := index . 0 }}
{{- $over := index . 1 }}
{{- $field := index . 2 }}
{{- $identity := get (include "messaging.identities" $ | fromYaml) $field }}
{{- $result := $over }}
{{- if and (kindIs "map" $own) (kindIs "map" $over) }}
  {{- $result = deepCopy $own }}
  {{- range $group := include "messaging.eitherOr" $ | fromYamlArray }}
    {{- range $given := $group }}
      {{- if and (hasKey $over $given) (not (kindIs "invalid" (get $over $given))) }}
        {{- range without $group $given }}{{ if not (hasKey $over .) }}{{ $_ := unset $result . }}{{ end }}{{ end }}
      {{- end }}
    {{- end }}
  {{- end }}
  {{- range $key, $value := $over }}
    {{- if and (kindIs "invalid" $value) (hasKey $own $key) }}
      {{- $_ := unset $result $key }}
    {{- else }}
      {{- $before := ternary (get $result $key) nil (hasKey $result $key) }}
      {{- $_ := set $result $key (include "messaging.layOver" (list $before $value $key) | fromJson).value }}
    {{- end }}
  {{- end }}
{{- else if and (kindIs "slice" $own) (kindIs "slice" $over) (eq $field "envFrom") }}
  {{- $result = concat $own $over }}
{{- else if and (kindIs "slice" $own) (kindIs "slice" $over) $identity }}
  {{- $result = list }}
  {{- $used := dict }}
  {{- range $item := $own }}
    {{- $laid := $item }}
    {{- $mine := include "messaging.identity" (list $item $identity) }}
    {{- range $number, $other := $over }}
      {{- $free := and $mine (not (hasKey $used $mine)) }}
      {{- if and $free (eq $mine (include "messaging.identity" (list $other $identity))) }}
        {{- $_ := set $used $mine $number }}
        {{- $base := $item }}
        {{- if and (eq $field "volumes") (gt (len $other) 1) }}
          {{- /* Of another kind of volume nothing of the first stays but its name. */}}
          {{- $base = dict }}
          {{- range $key, $_ := $other }}{{ if hasKey $item $key }}{{ $_ := set $base $key (get $item $key) }}{{ end }}{{ end }}
        {{- end }}
        {{- $laid = (include "messaging.layOver" (list $base $other "") | fromJson).value }}
      {{- end }}
    {{- end }}
    {{- $result = append $result $laid }}
  {{- end }}
  {{- range $number, $other := $over }}
    {{- if not (has $number (values $used)) }}{{ $result = append $result $other }}{{ end }}
  {{- end }}
{{- end }}
{{- dict "value" $result | toJson }}
{{- end -}}

{{- /* What tells an item from the others of its list; nothing if it lacks that. */ -}}
{{- define "messaging.identity" -}}
{{- $item := index . 0 }}
{{- $found := list }}
{{- if kindIs "map" $item }}
  {{- range index . 1 }}
    {{- if hasKey $item . }}{{ $found = append $found (get $item . | toString) }}
    {{- else if eq . "protocol" }}{{ $found = append $found "TCP" }}{{ end }}
  {{- end }}
{{- end }}
{{- if eq (len $found) (len (index . 1)) }}{{ toJson $found }}{{ end }}
{{- end -}}
