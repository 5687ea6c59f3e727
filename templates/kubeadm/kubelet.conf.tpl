{{- /* The kubelet's kubeconfig: its certificate and key are in a file of their own, which it renews itself. */ -}}
apiVersion: v1
kind: Config
clusters:
- name: {{ .Kubeconfig.Cluster }}
  cluster:
    server: {{ .Kubeconfig.Server }}
{{- with secret (printf "%s/cert/ca" .Vault.Mount) }}
    certificate-authority-data: {{ printf "%s\n" .Data.certificate | base64Encode }}
{{- end }}
contexts:
- name: {{ .Kubeconfig.Context }}
  context:
    cluster: {{ .Kubeconfig.Cluster }}
    user: {{ .Kubeconfig.User }}
current-context: {{ .Kubeconfig.Context }}
users:
- name: {{ .Kubeconfig.User }}
  user:
    client-certificate: {{ .Kubeconfig.ClientCertificate }}
    client-key: {{ .Kubeconfig.ClientKey }}
