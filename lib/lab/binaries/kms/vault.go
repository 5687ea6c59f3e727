package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// vault has its key in a transit engine. The id of a key is MOUNT/KEY:VERSION: a version alone would be that of any key.
type vault struct {
	address, mount, key, tokenFile string
	client                         *http.Client
}

func openVault(attributes map[string]string) (backend, error) {
	values, err := required(attributes, "Vault_address", "Vault_token_file", "Transit_mount", "Transit_key")
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{}
	if path := attributes["Vault_ca"]; path != "" {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errConfig, err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: %s holds no certificate", errConfig, path)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	return &vault{address: strings.TrimRight(values[0], "/"), tokenFile: values[1], mount: values[2], key: values[3], client: client}, nil
}

func (v *vault) id(version int) string { return fmt.Sprintf("%s/%s:%d", v.mount, v.key, version) }

func (v *vault) latest(ctx context.Context) (int, error) {
	var answer struct {
		Data struct {
			Latest int `json:"latest_version"`
		}
	}
	err := v.ask(ctx, http.MethodGet, "keys", nil, &answer)
	return answer.Data.Latest, err
}

// encrypt names the version: else a rotation in between would have another one encrypt than is told.
func (v *vault) encrypt(ctx context.Context, plaintext []byte) ([]byte, string, error) {
	version, err := v.latest(ctx)
	if err != nil {
		return nil, "", err
	}
	var answer struct{ Data struct{ Ciphertext string } }
	body := map[string]any{"plaintext": base64.StdEncoding.EncodeToString(plaintext), "key_version": version}
	if err := v.ask(ctx, http.MethodPost, "encrypt", body, &answer); err != nil {
		return nil, "", err
	}
	return []byte(answer.Data.Ciphertext), v.id(version), nil
}

func (v *vault) decrypt(ctx context.Context, ciphertext []byte, keyID string) ([]byte, error) {
	version, isOurs := strings.CutPrefix(keyID, fmt.Sprintf("%s/%s:", v.mount, v.key))
	if _, err := strconv.Atoi(version); !isOurs || err != nil || !bytes.HasPrefix(ciphertext, []byte("vault:v"+version+":")) {
		return nil, fmt.Errorf("the key is none of %s/%s", v.mount, v.key)
	}
	var answer struct{ Data struct{ Plaintext string } }
	if err := v.ask(ctx, http.MethodPost, "decrypt", map[string]any{"ciphertext": string(ciphertext)}, &answer); err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(answer.Data.Plaintext)
}

// ask reads the token anew each time: whoever renews it writes another one there.
func (v *vault) ask(ctx context.Context, method, what string, body any, answer any) error {
	token, err := os.ReadFile(v.tokenFile)
	if err != nil {
		return err
	}
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	url := fmt.Sprintf("%s/v1/%s/%s/%s", v.address, v.mount, what, v.key)
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(content))
	if err != nil {
		return err
	}
	request.Header.Set("X-Vault-Token", strings.TrimSpace(string(token)))
	response, err := v.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("Vault answered %s to %s of %s/%s", response.Status, what, v.mount, v.key)
	}
	return json.NewDecoder(response.Body).Decode(answer)
}
