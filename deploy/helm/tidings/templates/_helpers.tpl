{{- define "tidings.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tidings.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* Labels by which pods are selected: they never change. Takes (dict "root" $ "component" NAME). */}}
{{- define "tidings.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "tidings.labels" -}}
{{ include "tidings.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* Where pods of one component go. Takes (dict "root" $ "component" NAME "of" VALUES). */}}
{{- define "tidings.placement" -}}
{{- $term := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" (include "tidings.selector" . | fromYaml)) -}}
affinity:
  podAntiAffinity:
{{- if eq .of.antiAffinity "required" }}
    requiredDuringSchedulingIgnoredDuringExecution:
      {{- list $term | toYaml | nindent 6 }}
{{- else }}
    preferredDuringSchedulingIgnoredDuringExecution:
      {{- list (dict "weight" 100 "podAffinityTerm" $term) | toYaml | nindent 6 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "tidings.selector" . | nindent 8 }}
{{- with .of.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A number as digits: Helm reads numbers as floating point, and would write a large one with an exponent. */}}
{{- define "tidings.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{/* The names of the chart's own nodes of Cassandra or NATS. Takes (dict "root" $ "component" NAME "port" PORT "scheme" TEXT "count" N). */}}
{{- define "tidings.hosts" -}}
{{- $name := printf "%s-%s" (include "tidings.fullname" .root) .component -}}
{{- $hosts := list -}}
{{- range $at := until (int .count) -}}
{{- $hosts = append $hosts (printf "%s%s-%d.%s.%s.svc:%v" ($.scheme | default "") $name $at $name $.root.Release.Namespace $.port) -}}
{{- end -}}
{{- join "," $hosts -}}
{{- end -}}

{{- define "tidings.contactPoints" -}}
{{- if .Values.cassandra.enabled -}}
{{- include "tidings.hosts" (dict "root" . "component" "cassandra" "port" 9042 "count" (min 3 (int .Values.cassandra.replicas))) -}}
{{- else -}}
{{- required "cassandra.contactPoints: name some nodes, or set cassandra.enabled" .Values.cassandra.contactPoints -}}
{{- end -}}
{{- end -}}

{{- define "tidings.natsUrls" -}}
{{- if .Values.nats.enabled -}}
{{- include "tidings.hosts" (dict "root" . "component" "nats" "port" 4222 "scheme" "nats://" "count" .Values.nats.replicas) -}}
{{- else -}}
{{- .Values.nats.urls -}}
{{- end -}}
{{- end -}}

{{/* Environment variables by which Tidings finds its store; all that `tidings migrate` needs. */}}
{{- define "tidings.storeEnv" -}}
- {name: TIDINGS_STORE_KIND, value: cassandra}
- {name: TIDINGS_CASSANDRA_CONTACT_POINTS, value: {{ include "tidings.contactPoints" . | quote }}}
- {name: TIDINGS_CASSANDRA_KEYSPACE, value: {{ .Values.cassandra.keyspace | quote }}}
- {name: TIDINGS_CASSANDRA_DATA_CENTRE, value: {{ .Values.cassandra.dataCentre | quote }}}
- {name: TIDINGS_CASSANDRA_REPLICATION, value: {{ .Values.cassandra.replication | toString | quote }}}
{{- with .Values.cassandra.existingSecret }}
- name: TIDINGS_CASSANDRA_USER
  valueFrom: {secretKeyRef: {name: {{ . }}, key: user}}
- name: TIDINGS_CASSANDRA_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ . }}, key: password}}
{{- end }}
{{- end -}}

{{/*
Waits until a node of Cassandra listens, so that the next container need not fail and be started again ever more seldom.
Takes (dict "root" $ "all" BOOL).
*/}}
{{- define "tidings.waitForCassandra" -}}
- name: wait-for-cassandra
  image: {{ include "tidings.image" .root }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command:
    - bash
    - -c
    - |
      up() { timeout 3 bash -c "exec 3<>/dev/tcp/${1%:*}/${1##*:}" 2>/dev/null; }
      while true; do
        found=0 away=0
        for node in ${TIDINGS_CASSANDRA_CONTACT_POINTS//,/ }; do
          if up "$node"; then found=$((found + 1)); else away=$((away + 1)); fi
        done
        {{- if .all }}
        [ "$away" = 0 ] && exit
        {{- else }}
        [ "$found" -gt 0 ] && exit
        {{- end }}
        echo "Waiting for Cassandra: $away of $((found + away)) nodes do not listen yet"
        sleep 3
      done
  env:
    - {name: TIDINGS_CASSANDRA_CONTACT_POINTS, value: {{ include "tidings.contactPoints" .root | quote }}}
  securityContext:
    {{- include "tidings.containerSecurity" . | nindent 4 }}
  resources:
    requests: {cpu: 10m, memory: 16Mi}
    limits: {memory: 64Mi}
{{- end -}}

{{- define "tidings.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "tidings.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}
