# A KMS plugin as a unit. A plugin that ends with 78 says that a restart would not mend it: a wrong PIN must not be told to a token again and again.
[Unit]
Description=KMS plugin {{ .kms_name }}
Wants=network-online.target
After=network-online.target
Before=kubelet.service kube-apiserver.service

[Service]
ExecStart={{ .kms_program }} --listen={{ .kms_endpoint }} --config={{ .kms_config }}{{ with .kms_health_port }} --healthz-port={{ . }}{{ end }}
Restart=always
RestartSec=1
RestartPreventExitStatus=78

[Install]
WantedBy=multi-user.target
