package config_test

import (
	"testing"

	"heraldlb.io/herald/internal/config"
)

func TestEveryProblemHasItsLine(t *testing.T) {
	data := map[string]string{
		"pools.yaml": `# two pools
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata:
  name: lan
spec:
  addresses:
  - 192.0.2.0/24
  - 192.0.2.300
---
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: wan}
spec:
  adresses: []
`,
		`quo"ted.yaml`: "kind: [\n",
		"l2.yaml":      "apiVersion: heraldlb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: all}\nspec:\n  ipAddressPools: [lan]\n",
	}
	resources, problems := config.Parse("files", data)
	_, more := config.New(resources)
	problems = append(problems, more...)
	want := map[config.Place]string{
		{Key: "pools.yaml", Line: 9}:   config.ReasonInvalidAddresses,
		{Key: "pools.yaml", Line: 15}:  config.ReasonInvalidDocument,
		{Key: `quo"ted.yaml`, Line: 1}: config.ReasonInvalidDocument,
		{Key: "l2.yaml", Line: 5}:      config.ReasonPoolNotFound,
	}
	for i, at := range config.Locate(data, problems) {
		if want[at] != problems[i].Reason {
			t.Errorf("%v is at %v, want one of %v", problems[i], at, want)
		}
		delete(want, at)
	}
	if len(want) > 0 {
		t.Errorf("no problem at %v", want)
	}
}

func TestAProblemOfNoDocumentHasNoPlace(t *testing.T) {
	places := config.Locate(nil, []config.Problem{{Kind: config.KindConfigMap, Name: "x", Field: "data"}, {Kind: config.KindBGPPeer, Name: "p", Field: "spec"}})
	for _, at := range places {
		if at != (config.Place{}) {
			t.Errorf("place %v, want none", at)
		}
	}
}
