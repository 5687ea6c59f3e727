{{- /* A kubeconfig that holds its certificate and key: admin, super-admin, controller-manager, scheduler. */ -}}
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
{{- with secret (printf "%s/issue/%s" .Vault.Mount .Vault.Role)
  (printf "common_name=%s" .Certificate.CommonName)
  (printf "alt_names=%s" (.Certificate.DNSNames | join ","))
  (printf "ip_sans=%s" (.Certificate.IPAddresses | join ","))
  "exclude_cn_from_sans=true"
  (printf "ttl=%s" .Certificate.TTL) }}
    client-certificate-data: {{ printf "%s\n" .Data.certificate | base64Encode }}
    client-key-data: {{ printf "%s\n" .Data.private_key | base64Encode }}
{{- end }}
