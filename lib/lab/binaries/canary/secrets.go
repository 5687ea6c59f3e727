package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"
)

// writeSecrets does to Secrets what operators and Helm do all the time: each second it changes one, makes a new one, and
// removes one that it made before.
func writeSecrets(stop context.Context, arguments []string) error {
	flags := flag.NewFlagSet("write-secrets", flag.ExitOnError)
	api := flags.String("api", "https://kubernetes.default.svc", "address of the API")
	namespace := flags.String("namespace", os.Getenv("POD_NAMESPACE"), "where to write them")
	every := flags.Duration("every", time.Second, "time between changes")
	keep := flags.Int("keep", 5, "how many of the new ones to keep")
	flags.Parse(arguments)
	secrets := fmt.Sprintf("%s/api/v1/namespaces/%s/secrets", *api, *namespace)
	ticker := time.NewTicker(*every)
	defer ticker.Stop()
	var made []string
	var complaint string
	for {
		err := write(stop, "PATCH", secrets+"/changing", "changing")
		if name := fmt.Sprintf("release-v%d", time.Now().UnixMilli()); err == nil {
			if err = write(stop, "POST", secrets, name); err == nil {
				made = append(made, name)
			}
		}
		if err == nil && len(made) > *keep {
			if err = write(stop, "DELETE", secrets+"/"+made[0], ""); err == nil {
				made = made[1:]
			}
		}
		now := ""
		if err != nil {
			now = err.Error()
		}
		if now != complaint {
			complaint = now
			fmt.Fprintln(os.Stderr, "write-secrets:", complaint)
		}
		select {
		case <-stop.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// write sends a Secret of this name that nobody has seen before.
func write(stop context.Context, method, address, name string) error {
	call, cancel := context.WithTimeout(stop, 3*time.Second)
	defer cancel()
	header, roots, err := readCredentials(serviceAccount)
	if err != nil {
		return err
	}
	var body []byte
	if name != "" {
		header.Set("Content-Type", "application/json")
		if method == "PATCH" {
			header.Set("Content-Type", "application/merge-patch+json")
		}
		body, err = json.Marshal(map[string]any{
			"apiVersion": "v1", "kind": "Secret",
			"metadata":   map[string]string{"name": name},
			"stringData": map[string]string{"written": time.Now().UTC().Format(time.RFC3339Nano)},
		})
		if err != nil {
			return err
		}
	}
	_, err = request(call, method, address, header, roots, body)
	return err
}
