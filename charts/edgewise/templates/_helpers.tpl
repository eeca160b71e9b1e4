{{/* The part of every name that comes first. */}}
{{- define "edgewise.fullname" -}}
{{- default "edgewise" .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* What never changes of a component's labels. Takes (dict "root" $ "component" "operator"). */}}
{{- define "edgewise.selector" -}}
app.kubernetes.io/name: edgewise
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* All recommended labels. Takes (dict "root" $ "component" "operator"). */}}
{{- define "edgewise.labels" -}}
{{ include "edgewise.selector" . }}
app.kubernetes.io/part-of: edgewise
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{/* An image's reference. Takes (dict "root" $ "image" .Values.image). */}}
{{- define "edgewise.image" -}}
{{ .image.repository }}:{{ default .root.Chart.AppVersion .image.tag }}
{{- end -}}

{{/* Where a Service of the release is reached inside the cluster. Takes (dict "root" $ "service" "gateway"). */}}
{{- define "edgewise.url" -}}
https://{{ include "edgewise.fullname" .root }}-{{ .service }}.{{ .root.Release.Namespace }}.svc
{{- end -}}

{{/* Whether the operator makes the certificates (Generated) or only reads them (Existing). */}}
{{- define "edgewise.tlsMode" -}}
{{- if or .Values.tls.existingSecrets .Values.tls.certManager.issuerRef -}}Existing{{- else -}}Generated{{- end -}}
{{- end -}}

{{/*
Where system pods run: rather not on an edge device, spread over Nodes, and away from a lost Node after 10 s.
Takes (dict "root" $ "component" "operator" "settings" .Values.operator).
*/}}
{{- define "edgewise.scheduling" -}}
affinity:
  nodeAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        preference:
          matchExpressions:
            - key: {{ .root.Values.edgeLabel.key }}
              operator: NotIn
              values: [{{ .root.Values.edgeLabel.value | quote }}]
{{- with .settings.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
tolerations:
  - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 10}
  - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 10}
  {{- with .settings.tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* As whom system pods run. */}}
{{- define "edgewise.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "edgewise.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* The token that agents and the gateway show: it names its pod and Node, and is good for Edgewise only. */}}
{{- define "edgewise.tokenVolume" -}}
name: token
projected:
  sources:
    - serviceAccountToken: {audience: edgewise, expirationSeconds: 86400, path: token}
{{- end -}}

{{- define "edgewise.caVolume" -}}
name: ca
configMap: {name: {{ include "edgewise.fullname" . }}-ca}
{{- end -}}
