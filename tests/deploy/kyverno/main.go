// Matches resources against the patterns of Kyverno policies, with Kyverno's own matcher: the part of its program that decides,
// without the two thousand packages around it.
//
//	kyvernomatch < input.json      input.json: {"policies": [...], "resources": [...]}
//
// Prints a JSON list of {"rule", "resource", "refused"} of each rule and each resource of its kinds. Rules of another sort than
// `pattern` are left out.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/go-logr/logr"
	"github.com/kyverno/kyverno/pkg/engine/validate"
)

type input struct {
	Policies []struct {
		Spec struct {
			Rules []struct {
				Name  string `json:"name"`
				Match struct {
					Any []struct {
						Resources struct {
							Kinds []string `json:"kinds"`
						} `json:"resources"`
					} `json:"any"`
				} `json:"match"`
				Validate struct {
					Pattern any `json:"pattern"`
				} `json:"validate"`
			} `json:"rules"`
		} `json:"spec"`
	} `json:"policies"`
	Resources []map[string]any `json:"resources"`
}

type verdict struct {
	Rule     string `json:"rule"`
	Resource string `json:"resource"`
	Refused  string `json:"refused"`
}

func main() {
	var in input
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		fmt.Fprintln(os.Stderr, "kyvernomatch:", err)
		os.Exit(2)
	}
	verdicts := []verdict{}
	for _, policy := range in.Policies {
		for _, rule := range policy.Spec.Rules {
			if rule.Validate.Pattern == nil {
				continue
			}
			kinds := map[string]bool{}
			for _, any := range rule.Match.Any {
				for _, kind := range any.Resources.Kinds {
					kinds[kind] = true
				}
			}
			for _, resource := range in.Resources {
				kind, _ := resource["kind"].(string)
				if !kinds[kind] {
					continue
				}
				metadata, _ := resource["metadata"].(map[string]any)
				v := verdict{Rule: rule.Name, Resource: fmt.Sprint(kind, " ", metadata["name"])}
				if err := validate.MatchPattern(logr.Discard(), resource, rule.Validate.Pattern); err != nil {
					v.Refused = err.Error()
				}
				verdicts = append(verdicts, v)
			}
		}
	}
	_ = json.NewEncoder(os.Stdout).Encode(verdicts)
}
