{{ .Host }}
{{ .Message }}
