// Says what the API server's own Pod Security admission would refuse.
//
//	podsecurity LEVEL < pods.json      LEVEL: restricted or baseline; pods.json: a list of {"name": ..., "metadata": ..., "spec": ...}
//
// A line for each pod that is refused; exit status 1 when there is one.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

type pod struct {
	Name     string            `json:"name"`
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     corev1.PodSpec    `json:"spec"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: podsecurity LEVEL < pods.json")
		os.Exit(2)
	}
	var pods []pod
	if err := json.NewDecoder(os.Stdin).Decode(&pods); err != nil {
		fmt.Fprintln(os.Stderr, "podsecurity:", err)
		os.Exit(2)
	}
	level, err := api.ParseLevel(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "podsecurity:", err)
		os.Exit(2)
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks())
	if err != nil {
		fmt.Fprintln(os.Stderr, "podsecurity:", err)
		os.Exit(2)
	}
	refused := false
	for i := range pods {
		results := evaluator.EvaluatePod(api.LevelVersion{Level: level, Version: api.LatestVersion()}, &pods[i].Metadata, &pods[i].Spec)
		if result := policy.AggregateCheckResults(results); !result.Allowed {
			refused = true
			fmt.Printf("%s: %s\n", pods[i].Name, result.ForbiddenDetail())
		}
	}
	if refused {
		os.Exit(1)
	}
}
