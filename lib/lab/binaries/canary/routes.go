package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"sort"
	"strings"
	"time"
)

type serviceList struct {
	Items []struct {
		Metadata struct{ Namespace, Name string }
		Spec     struct {
			ClusterIP string
			Ports     []struct {
				Name, Protocol string
				Port           int
			}
		}
	}
}

type sliceList struct {
	Items []struct {
		Metadata struct {
			Namespace string
			Labels    map[string]string
		}
		Ports []struct {
			Name, Protocol string
			Port           int
		}
		Endpoints []struct {
			Addresses  []string
			Conditions struct{ Ready *bool }
		}
	}
}

// routeServices leads what is sent to the address of a Service to one of its pods, by rules in the kernel of its
// machine: what kube-proxy does, and what a pod network that replaces it does. The rules stay while the API is away.
func routeServices(stop context.Context, arguments []string) error {
	flags := flag.NewFlagSet("route-services", flag.ExitOnError)
	api := flags.String("api", "", "address of the API, which must not be that of a Service")
	every := flags.Duration("every", 500*time.Millisecond, "time between looks at the API")
	flags.Parse(arguments)
	var written, complaint string
	ticker := time.NewTicker(*every)
	defer ticker.Stop()
	for {
		rules, err := readRules(stop, *api)
		if err == nil && rules != written {
			if err = writeRules(rules); err == nil {
				written = rules
				fmt.Printf("wrote %d rules\n", strings.Count(rules, "\n-A"))
			}
		}
		now := ""
		if err != nil {
			now = err.Error()
		}
		if now != complaint {
			complaint = now
			fmt.Fprintln(os.Stderr, "service-routes:", complaint)
		}
		select {
		case <-stop.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// readRules asks the API for Services and their pods, and returns them as iptables-restore takes them.
func readRules(stop context.Context, api string) (string, error) {
	call, cancel := context.WithTimeout(stop, 5*time.Second)
	defer cancel()
	var services serviceList
	if err := list(call, api+"/api/v1/services", &services); err != nil {
		return "", err
	}
	var slices sliceList
	if err := list(call, api+"/apis/discovery.k8s.io/v1/endpointslices", &slices); err != nil {
		return "", err
	}
	return rulesOf(services, slices), nil
}

func list(call context.Context, address string, into any) error {
	header, roots, err := readCredentials(serviceAccount)
	if err != nil {
		return err
	}
	answer, err := request(call, "GET", address, header, roots, nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, into)
}

func rulesOf(services serviceList, slices sliceList) string {
	targets := map[string][]string{}
	pods := map[string]bool{}
	for _, slice := range slices.Items {
		service := slice.Metadata.Namespace + "/" + slice.Metadata.Labels["kubernetes.io/service-name"]
		for _, port := range slice.Ports {
			key := service + " " + port.Name + " " + port.Protocol
			for _, endpoint := range slice.Endpoints {
				if endpoint.Conditions.Ready != nil && !*endpoint.Conditions.Ready {
					continue
				}
				for _, address := range endpoint.Addresses {
					targets[key] = append(targets[key], fmt.Sprintf("%s:%d", address, port.Port))
					pods[address] = true
				}
			}
		}
	}
	var routes, hairpins []string
	for _, service := range services.Items {
		if service.Spec.ClusterIP == "" || service.Spec.ClusterIP == "None" {
			continue
		}
		for _, port := range service.Spec.Ports {
			key := service.Metadata.Namespace + "/" + service.Metadata.Name + " " + port.Name + " " + port.Protocol
			to := targets[key]
			sort.Strings(to)
			for index, target := range to {
				protocol := strings.ToLower(port.Protocol)
				// The first rule takes its share of all, the next of what is left, the last one the rest.
				routes = append(routes, fmt.Sprintf(
					"-A LAB-SERVICES -d %s/32 -p %s --dport %d -m statistic --mode random --probability %.6f -j DNAT --to-destination %s",
					service.Spec.ClusterIP, protocol, port.Port, 1/float64(len(to)-index), target,
				))
			}
		}
	}
	for pod := range pods {
		// A pod that is led to itself must hear from somebody else.
		hairpins = append(hairpins, fmt.Sprintf("-A LAB-HAIRPIN -s %s/32 -d %s/32 -j MASQUERADE", pod, pod))
	}
	sort.Strings(hairpins)
	lines := append([]string{"*nat", ":LAB-SERVICES - [0:0]", ":LAB-HAIRPIN - [0:0]"}, routes...)
	return strings.Join(append(append(lines, hairpins...), "COMMIT", ""), "\n")
}

// writeRules puts the rules in the place of those before, all at once.
func writeRules(rules string) error {
	if err := run(rules, "iptables-restore", "--wait=5", "--noflush"); err != nil {
		return err
	}
	for _, jump := range [][]string{
		{"PREROUTING", "-j", "LAB-SERVICES"},
		{"OUTPUT", "-j", "LAB-SERVICES"},
		{"POSTROUTING", "-j", "LAB-HAIRPIN"},
	} {
		if run("", "iptables", append([]string{"--wait=5", "-t", "nat", "-C"}, jump...)...) == nil {
			continue
		}
		if err := run("", "iptables", append([]string{"--wait=5", "-t", "nat", "-A"}, jump...)...); err != nil {
			return err
		}
	}
	return nil
}

func run(input, program string, arguments ...string) error {
	command := exec.Command(program, arguments...)
	command.Stdin = strings.NewReader(input)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, output)
	}
	return nil
}
