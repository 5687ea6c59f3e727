// A KMS v2 plugin of the lab's own, on a socket of its own: its keys are those of Vault's transit engine, or of a token of PKCS#11. What it is
// asked it logs with the id of the key, so that its log proves who still needs which key.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"k8s.io/kms/pkg/service"
)

// backend has the key that data is encrypted with, and all that are needed to decrypt.
type backend interface {
	encrypt(ctx context.Context, plaintext []byte) (ciphertext []byte, keyID string, err error)
	decrypt(ctx context.Context, ciphertext []byte, keyID string) ([]byte, error)
}

// errConfig is what a restart would not mend; a wrong PIN is one, as a token locks itself after some.
var errConfig = errors.New("configuration")

// exitConfig is sysexits' EX_CONFIG: a unit says with it that it must not be restarted.
const exitConfig = 78

func main() {
	listen := flag.String("listen", "", "socket to listen on: unix:///run/kms/first.sock")
	file := flag.String("config", "", "file with the attributes of the backend")
	port := flag.Int("healthz-port", 0, "port of 127.0.0.1 for /healthz; 0 is none")
	flag.Parse()
	log.SetFlags(log.LstdFlags | log.LUTC | log.Lmicroseconds)
	if err := run(*listen, *file, *port); err != nil {
		log.Print(err)
		if errors.Is(err, errConfig) {
			os.Exit(exitConfig)
		}
		os.Exit(1)
	}
}

func run(listen, file string, port int) error {
	socket, isSocket := strings.CutPrefix(listen, "unix://")
	if !isSocket || file == "" {
		return fmt.Errorf("%w: --listen unix:///PATH and --config FILE must be given", errConfig)
	}
	attributes, err := read(file)
	if err != nil {
		return err
	}
	backend, err := open(attributes)
	if err != nil {
		return err
	}
	// What a plugin of before left there. Only root may ask.
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	syscall.Umask(0o077)
	plugin := &plugin{backend}
	server := service.NewGRPCService(socket, 10*time.Second, plugin)
	failed := make(chan error, 2)
	go func() { failed <- server.ListenAndServe() }()
	if port != 0 {
		go func() { failed <- http.ListenAndServe(fmt.Sprintf("127.0.0.1:%d", port), plugin.health()) }()
	}
	log.Printf("listening on %s", listen)
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	select {
	case err := <-failed:
		return err
	case <-stop.Done():
		server.Shutdown()
		return nil
	}
}

func open(attributes map[string]string) (backend, error) {
	if attributes["Transit_key"] != "" {
		return openVault(attributes)
	}
	return openToken(attributes)
}

// read takes lines of NAME = VALUE; what begins with # says nothing.
func read(path string) (map[string]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	defer file.Close()
	attributes := map[string]string{}
	lines := bufio.NewScanner(file)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, isPair := strings.Cut(line, "=")
		if !isPair {
			return nil, fmt.Errorf("%w: %s:%d: this is no NAME = VALUE", errConfig, path, number)
		}
		attributes[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return attributes, lines.Err()
}

// required returns attributes in the order of their names, or says which is missing.
func required(attributes map[string]string, names ...string) ([]string, error) {
	values := make([]string, len(names))
	for i, name := range names {
		if values[i] = attributes[name]; values[i] == "" {
			return nil, fmt.Errorf("%w: %s is missing", errConfig, name)
		}
	}
	return values, nil
}

// plugin answers API servers.
type plugin struct{ backend }

// keyID is the id of the key that encrypt uses now. It is tried: a token that lost a key goes on listing it to who found it before, and a key of
// Vault can be seen by who may not use it.
func (p *plugin) keyID(ctx context.Context) (string, error) {
	ciphertext, id, err := p.encrypt(ctx, []byte("probe"))
	if err != nil {
		return "", err
	}
	_, err = p.decrypt(ctx, ciphertext, id)
	return id, err
}

func (p *plugin) Status(ctx context.Context) (*service.StatusResponse, error) {
	id, err := p.keyID(ctx)
	if err != nil {
		log.Printf("status failed: %v", err)
		return nil, err
	}
	log.Printf("status key_id=%s", id)
	return &service.StatusResponse{Version: "v2", Healthz: "ok", KeyID: id}, nil
}

func (p *plugin) Encrypt(ctx context.Context, uid string, plaintext []byte) (*service.EncryptResponse, error) {
	ciphertext, id, err := p.encrypt(ctx, plaintext)
	if err != nil {
		log.Printf("encrypt uid=%q failed: %v", uid, err)
		return nil, err
	}
	log.Printf("encrypt uid=%q key_id=%s", uid, id)
	return &service.EncryptResponse{Ciphertext: ciphertext, KeyID: id}, nil
}

func (p *plugin) Decrypt(ctx context.Context, uid string, request *service.DecryptRequest) ([]byte, error) {
	plaintext, err := p.decrypt(ctx, request.Ciphertext, request.KeyID)
	if err != nil {
		log.Printf("decrypt uid=%q key_id=%q failed: %v", uid, request.KeyID, err)
		return nil, err
	}
	log.Printf("decrypt uid=%q key_id=%s", uid, request.KeyID)
	return plaintext, nil
}

// health says by /healthz whether the key can be used; who asks is not an API server, and stands in no log.
func (p *plugin) health() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(answer http.ResponseWriter, request *http.Request) {
		ctx, cancel := context.WithTimeout(request.Context(), 5*time.Second)
		defer cancel()
		if _, err := p.keyID(ctx); err != nil {
			http.Error(answer, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(answer, "ok")
	})
	return mux
}
