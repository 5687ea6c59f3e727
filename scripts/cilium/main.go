// Has Cilium's agent read key files, each as if it were the first one of that agent and its lines came one after the other, and says what it makes of
// them: a JSON list of texts on stdin, a list of answers on stdout.
package main

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/cilium/pkg/datapath/linux/ipsec"
)

type answer struct {
	// What speaks against it; empty where it is taken.
	Refused string `json:"refused,omitempty"`
	// The id that it would send with.
	ID uint8 `json:"id,omitempty"`
}

// What the agent's tests hand it. Nothing was put into the kernel, and there is nothing to clean up.
type quiet struct{ testing.TB }

func (quiet) Cleanup(func())        {}
func (quiet) Helper()               {}
func (quiet) Log(...any)            {}
func (quiet) Logf(string, ...any)   {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Name() string          { return "answers" }

func read(text string) (found answer) {
	defer func() {
		if problem := recover(); problem != nil {
			found = answer{Refused: "it panics"}
		}
	}()
	agent, err := ipsec.NewTestIPsecAgent(quiet{}, strings.NewReader(text))
	if err != nil {
		return answer{Refused: err.Error()}
	}
	// It tells nobody but itself.
	key := reflect.ValueOf(agent).Elem().FieldByName("key").Elem()
	return answer{ID: uint8(key.FieldByName("Spi").Uint())}
}

func main() {
	var texts []string
	if err := json.NewDecoder(os.Stdin).Decode(&texts); err != nil {
		panic(err)
	}
	answers := []answer{}
	for _, text := range texts {
		answers = append(answers, read(text))
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		panic(err)
	}
}
