# The lab's plugin on a token of PKCS#11. Primary_key encrypts, Secondary_key decrypts too: labels of keys.
Library = {{ .kms_library }}
Token = {{ .kms_token }}
Pin_file = {{ .kms_pin_file }}
Primary_key = {{ .kms_primary_key }}
