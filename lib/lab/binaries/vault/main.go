// Vault's own command line, built with the tag "minimal": the server, raft storage, and the few built-in
// engines of that build, among them pki and approle.
package main

import (
	"os"

	"github.com/hashicorp/vault/command"
)

func main() {
	os.Exit(command.Run(os.Args[1:]))
}
