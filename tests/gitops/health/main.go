// Command health tells the health of Kubernetes objects as the tools that deploy them compute it.
//
// It reads one JSON document from standard input: the objects, Argo CD's Lua script for each kind, and Flux's CEL
// expressions for each kind. It writes a JSON array with a verdict for each object, in the same order: what kstatus says
// (Flux without expressions, Helm 4, kpt), what Argo CD says and what Flux says with the expressions. Each check is
// done by the library that the tool itself uses, in the same manner.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type request struct {
	Objects []*unstructured.Unstructured                `json:"objects"`
	Lua     map[string]string                           `json:"lua"`
	CEL     map[string]kustomize.HealthCheckExpressions `json:"cel"`
}

type health struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

type verdict struct {
	Kstatus health `json:"kstatus"`
	ArgoCD  health `json:"argoCd"`
	Flux    health `json:"flux"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "health:", err)
		os.Exit(1)
	}
}

func run() error {
	var asked request
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	verdicts := make([]verdict, 0, len(asked.Objects))
	for _, object := range asked.Objects {
		one, err := judge(object, asked)
		if err != nil {
			return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
		verdicts = append(verdicts, one)
	}
	return json.NewEncoder(os.Stdout).Encode(verdicts)
}

// judge asks all three for one object. A kind without a script or without expressions is an error: no kind may be
// forgotten.
func judge(object *unstructured.Unstructured, asked request) (verdict, error) {
	computed, err := status.Compute(object)
	if err != nil {
		return verdict{}, fmt.Errorf("kstatus: %w", err)
	}
	script, known := asked.Lua[object.GetKind()]
	if !known {
		return verdict{}, fmt.Errorf("no Lua script for its kind")
	}
	argo, err := runLua(script, object.Object)
	if err != nil {
		return verdict{}, fmt.Errorf("Argo CD's Lua: %w", err)
	}
	expressions, known := asked.CEL[object.GetKind()]
	if !known {
		return verdict{}, fmt.Errorf("no CEL expressions for its kind")
	}
	flux, err := evaluate(&expressions, object)
	if err != nil {
		return verdict{}, fmt.Errorf("Flux's CEL: %w", err)
	}
	return verdict{
		Kstatus: health{string(computed.Status), computed.Message},
		ArgoCD:  argo,
		Flux:    flux,
	}, nil
}

func evaluate(expressions *kustomize.HealthCheckExpressions, object *unstructured.Unstructured) (health, error) {
	evaluator, err := cel.NewStatusEvaluator(expressions)
	if err != nil {
		return health{}, err
	}
	result, err := evaluator.Evaluate(context.Background(), object)
	if err != nil {
		return health{}, err
	}
	return health{string(result.Status), result.Message}, nil
}
