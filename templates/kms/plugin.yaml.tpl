# A KMS plugin as a static pod, beside the one of before: name, socket and port are its own. The folder of the socket is mounted as a whole.
apiVersion: v1
kind: Pod
metadata:
  name: {{ .kms_name }}
  namespace: kube-system
  labels:
    tier: control-plane
    component: kms-plugin
spec:
  priorityClassName: system-node-critical
  hostNetwork: true
  containers:
    - name: kms-plugin
      image: {{ .kms_image }}
      imagePullPolicy: IfNotPresent
      args:
{{- range .kms_arguments }}
        - {{ . | toJSON }}
{{- end }}
{{- with .kms_health_port }}
      livenessProbe:
        httpGet:
          host: 127.0.0.1
          path: /healthz
          port: {{ . }}
        failureThreshold: 2
        periodSeconds: 10
{{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        capabilities:
          drop: [ALL]
        readOnlyRootFilesystem: true
        runAsUser: 0
      volumeMounts:
{{- range $index, $folder := .kms_folders }}
        - name: folder-{{ $index }}
          mountPath: {{ $folder }}
{{- end }}
  volumes:
{{- range $index, $folder := .kms_folders }}
    - name: folder-{{ $index }}
      hostPath:
        path: {{ $folder }}
        type: Directory
{{- end }}
