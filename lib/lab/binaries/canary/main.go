// The canaries: an HTTP server, a caller of that server by its Service's name, and a caller of the Kubernetes API
// with a service-account token. The callers keep count in a JSON file that outlives their pod. `pause` holds a
// pod's namespaces open; `route-services` and `write-secrets` stand in for what other clusters run.
package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	name := filepath.Base(os.Args[0])
	arguments := os.Args[1:]
	if name == "canary" && len(arguments) > 0 {
		name, arguments = arguments[0], arguments[1:]
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	var err error
	switch name {
	case "pause":
		pause(stop)
	case "serve":
		err = serve(stop, arguments)
	case "call-service":
		err = callService(stop, arguments)
	case "call-api":
		err = callAPI(stop, arguments)
	case "route-services":
		err = routeServices(stop, arguments)
	case "write-secrets":
		err = writeSecrets(stop, arguments)
	case "show":
		err = show()
	default:
		err = errors.New("usage: canary serve | call-service | call-api | route-services | write-secrets | show | pause [flags]")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "canary:", err)
		os.Exit(1)
	}
}

// pause waits to be told to end, and collects the orphans of its pod meanwhile.
func pause(stop context.Context) {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	for {
		select {
		case <-stop.Done():
			return
		case <-children:
			for {
				if pid, _ := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 {
					break
				}
			}
		}
	}
}

// serve answers every request. After SIGTERM it goes on serving for a while: endpoints leave a Service only some
// time after their pod was told to end.
func serve(stop context.Context, arguments []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	address := flags.String("listen", ":8080", "address to listen on")
	linger := flags.Duration("linger", 8*time.Second, "how long to go on serving after SIGTERM")
	flags.Parse(arguments)
	var requests atomic.Int64
	started := time.Now()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(writer http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		fmt.Fprintln(writer, "ok")
	})
	mux.HandleFunc("/stats", func(writer http.ResponseWriter, _ *http.Request) {
		writer.Header().Set("Content-Type", "application/json")
		json.NewEncoder(writer).Encode(map[string]any{
			"pod": os.Getenv("POD_NAME"), "node": os.Getenv("NODE_NAME"),
			"started": started.UTC().Format(time.RFC3339), "requests": requests.Load(),
		})
	})
	server := &http.Server{Addr: *address, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-stop.Done():
	}
	time.Sleep(*linger)
	closing, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return server.Shutdown(closing)
}

// results is what a caller has seen so far. Every call that got no 2xx answer in time is a failure; those that were
// answered with 401 or 403 are counted as refused as well.
type counts struct {
	Kind         string `json:"kind"`
	Pod          string `json:"pod"`
	Namespace    string `json:"namespace"`
	Node         string `json:"node"`
	Started      string `json:"started"`
	Updated      string `json:"updated"`
	Calls        int64  `json:"calls"`
	Failures     int64  `json:"failures"`
	Refused      int64  `json:"refused"`
	LongestGapMs int64  `json:"longestGapMs"`
	LastError    string `json:"lastError"`
}

type results struct {
	counts
	mutex       sync.Mutex
	file        string
	lastSuccess time.Time
	resetFile   string
	resetAt     time.Time
}

func newResults(kind, folder string) *results {
	pod := os.Getenv("POD_NAME")
	now := time.Now()
	r := &results{
		counts: counts{
			Kind: kind, Pod: pod, Namespace: os.Getenv("POD_NAMESPACE"), Node: os.Getenv("NODE_NAME"),
			Started: now.UTC().Format(time.RFC3339),
		},
		file:        filepath.Join(folder, kind+"-"+pod+".json"),
		resetFile:   filepath.Join(folder, "reset"),
		lastSuccess: now,
	}
	if info, err := os.Stat(r.resetFile); err == nil {
		r.resetAt = info.ModTime()
	}
	return r
}

func (r *results) count(err error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	now := time.Now()
	r.Calls++
	if err == nil {
		r.LongestGapMs = max(r.LongestGapMs, now.Sub(r.lastSuccess).Milliseconds())
		r.lastSuccess = now
		return
	}
	r.Failures++
	if errors.Is(err, errRefused) {
		r.Refused++
	}
	r.LastError = now.UTC().Format("15:04:05.000 ") + err.Error()
}

// write replaces the file at once, so that a reader never sees half of it.
func (r *results) write() error {
	r.mutex.Lock()
	now := time.Now()
	// Whoever touches the file "reset" starts the count anew: the lab does, once a cluster has come up.
	if info, err := os.Stat(r.resetFile); err == nil && !info.ModTime().Equal(r.resetAt) {
		r.resetAt = info.ModTime()
		r.Calls, r.Failures, r.Refused, r.LongestGapMs, r.LastError = 0, 0, 0, 0, ""
		r.lastSuccess = now
	}
	r.Updated = now.UTC().Format(time.RFC3339)
	// A gap that has not ended yet counts as far as it goes.
	shown := r.counts
	shown.LongestGapMs = max(r.LongestGapMs, now.Sub(r.lastSuccess).Milliseconds())
	content, err := json.Marshal(&shown)
	r.mutex.Unlock()
	if err != nil {
		return err
	}
	// The reader globs for *.json: the file that is still being written has another ending.
	if err := os.WriteFile(r.file+".new", content, 0o644); err != nil {
		return err
	}
	return os.Rename(r.file+".new", r.file)
}

// repeat starts a call at every tick, whether or not those before it have ended, until it is told to stop; then it
// waits for the calls under way. A slow answer so never hides the calls that users would have made meanwhile.
func (r *results) repeat(stop context.Context, every, timeout time.Duration, call func(context.Context) error) error {
	if err := r.write(); err != nil {
		return err
	}
	calls := time.NewTicker(every)
	defer calls.Stop()
	writes := time.NewTicker(200 * time.Millisecond)
	defer writes.Stop()
	var running sync.WaitGroup
	for {
		select {
		case <-stop.Done():
			running.Wait()
			return r.write()
		case <-writes.C:
			if err := r.write(); err != nil {
				return err
			}
		case <-calls.C:
			running.Add(1)
			go func() {
				defer running.Done()
				limited, cancel := context.WithTimeout(context.Background(), timeout)
				defer cancel()
				r.count(call(limited))
			}()
		}
	}
}

// get makes one request and throws its answer away.
func get(call context.Context, address string, header http.Header, roots *x509.CertPool) error {
	_, err := request(call, http.MethodGet, address, header, roots, nil)
	return err
}

// show prints every result on this machine, for whoever looks into a pod.
func show() error {
	files, err := filepath.Glob("/results/*.json")
	for _, file := range files {
		if content, err := os.ReadFile(file); err == nil {
			fmt.Println(string(content))
		}
	}
	return err
}

func callService(stop context.Context, arguments []string) error {
	flags := flag.NewFlagSet("call-service", flag.ExitOnError)
	address := flags.String("url", "", "what to call")
	every := flags.Duration("every", 90*time.Millisecond, "time between calls")
	timeout := flags.Duration("timeout", 5*time.Second, "time a call may take")
	folder := flags.String("results", "/results", "folder for the results")
	flags.Parse(arguments)
	return newResults("service", *folder).repeat(stop, *every, *timeout, func(call context.Context) error {
		return get(call, *address, http.Header{}, nil)
	})
}

// callAPI reads its token and CA from their files for each call, as an up-to-date client does.
func callAPI(stop context.Context, arguments []string) error {
	flags := flag.NewFlagSet("call-api", flag.ExitOnError)
	kind := flags.String("kind", "token", "kind of the results: token or legacy-token")
	address := flags.String("url", "", "what to call")
	credentials := flags.String("credentials", "/var/run/secrets/kubernetes.io/serviceaccount", "folder with token and ca.crt")
	every := flags.Duration("every", 400*time.Millisecond, "time between calls")
	timeout := flags.Duration("timeout", 3*time.Second, "time a call may take")
	folder := flags.String("results", "/results", "folder for the results")
	flags.Parse(arguments)
	return newResults(*kind, *folder).repeat(stop, *every, *timeout, func(call context.Context) error {
		header, roots, err := readCredentials(*credentials)
		if err != nil {
			return err
		}
		return get(call, *address, header, roots)
	})
}
