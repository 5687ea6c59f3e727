package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// errRefused marks an answer of 401 or 403.
var errRefused = errors.New("refused")

// serviceAccount is the folder with the token and the CA that every pod is given.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// readCredentials reads a token and a CA from their files: anew for each call, as an up-to-date client does.
func readCredentials(folder string) (http.Header, *x509.CertPool, error) {
	token, err := os.ReadFile(filepath.Join(folder, "token"))
	if err != nil {
		return nil, nil, err
	}
	ca, err := os.ReadFile(filepath.Join(folder, "ca.crt"))
	if err != nil {
		return nil, nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, nil, errors.New("no certificate in ca.crt")
	}
	return http.Header{"Authorization": {"Bearer " + strings.TrimSpace(string(token))}}, roots, nil
}

// request makes one request over a connection of its own, and returns what was answered. No retries: a call that
// failed is a call that failed.
func request(
	call context.Context, method, address string, header http.Header, roots *x509.CertPool, body []byte,
) ([]byte, error) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext:       dial,
		TLSClientConfig:   &tls.Config{RootCAs: roots},
	}
	defer transport.CloseIdleConnections()
	traced, how := trace(call)
	asked, err := http.NewRequestWithContext(traced, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	asked.Header = header
	response, err := transport.RoundTrip(asked)
	if err != nil {
		return nil, how(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return nil, how(err)
	case response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden:
		return nil, fmt.Errorf("%w: HTTP %d", errRefused, response.StatusCode)
	case response.StatusCode >= 300:
		return nil, fmt.Errorf("HTTP %d", response.StatusCode)
	}
	return answer, nil
}

// trace notes how far a request comes. What it returns says of an error where it was, and after how long: a lost question
// to DNS, a connection that nobody takes and a server that does not answer all end in the same deadline.
func trace(call context.Context) (context.Context, func(error) error) {
	begun := time.Now()
	var phase atomic.Value
	phase.Store("before it was sent")
	enters := func(name string) { phase.Store(name) }
	traced := httptrace.WithClientTrace(call, &httptrace.ClientTrace{
		DNSStart:             func(httptrace.DNSStartInfo) { enters("looking up the name") },
		ConnectStart:         func(_, _ string) { enters("connecting") },
		TLSHandshakeStart:    func() { enters("in the TLS handshake") },
		WroteRequest:         func(httptrace.WroteRequestInfo) { enters("waiting for the answer") },
		GotFirstResponseByte: func() { enters("reading the answer") },
	})
	return traced, func(err error) error {
		return fmt.Errorf("%s, after %d ms: %w", phase.Load(), time.Since(begun).Milliseconds(), err)
	}
}

// dial looks a name up anew for each connection, for IPv4 only: half as many DNS questions.
func dial(call context.Context, _, address string) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(call, "tcp4", address)
}
