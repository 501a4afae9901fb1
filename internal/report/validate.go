package report

import (
	"cmp"
	"slices"

	"heraldlb.io/herald/internal/config"
)

// The severities of a Fault.
const (
	SeverityError   = "error"   // the object cannot apply as it is
	SeverityWarning = "warning" // a part of it waits for another object
)

// Fault is what is wrong with one line of a file.
type Fault struct {
	File     string `json:"file"`
	Line     int    `json:"line,omitempty"`
	Severity string `json:"severity"`
	Kind     string `json:"kind,omitempty"`
	Name     string `json:"name,omitempty"`
	Field    string `json:"field,omitempty"`
	Reason   string `json:"reason"`
	Message  string `json:"message"`
}

// Validate judges files as one configuration. The faults are in the order of the files and lines.
func Validate(files map[string]string) []Fault {
	resources, problems := config.Parse("", files)
	_, more := config.New(resources)
	problems = append(problems, more...)
	faults := make([]Fault, len(problems))
	for i, place := range config.Locate(files, problems) {
		p := problems[i]
		f := Fault{File: place.Key, Line: place.Line, Severity: SeverityError, Reason: p.Reason, Message: p.Message}
		if p.Condition == config.ConditionResolvedRefs {
			f.Severity = SeverityWarning
		}
		if p.Kind != config.KindConfigMap { // else the message says all there is
			f.Kind, f.Name, f.Field = p.Kind, p.Name, p.Field
			f.Message = p.Kind + " " + p.Name + ": " + p.Text()
		}
		faults[i] = f
	}
	slices.SortStableFunc(faults, func(x, y Fault) int { return cmp.Or(cmp.Compare(x.File, y.File), cmp.Compare(x.Line, y.Line)) })
	return faults
}
