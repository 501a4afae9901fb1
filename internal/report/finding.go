package report

import (
	"cmp"
	"slices"
)

// Finding is something that needs a person, and what that person can do.
type Finding struct {
	Severity string `json:"severity"`
	Object   string `json:"object"` // kind/name or kind/namespace/name
	Reason   string `json:"reason"` // CamelCase
	Message  string `json:"message"`
	Remedy   string `json:"remedy,omitempty"`
}

// sortFindings puts errors first.
func sortFindings(all []Finding) []Finding {
	slices.SortStableFunc(all, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(x.Severity, y.Severity), cmp.Compare(x.Object, y.Object), cmp.Compare(x.Reason, y.Reason))
	})
	if all == nil {
		return []Finding{}
	}
	return all
}

func failure(object, reason, message, remedy string) Finding {
	return Finding{SeverityError, object, reason, message, remedy}
}

func warning(object, reason, message, remedy string) Finding {
	return Finding{SeverityWarning, object, reason, message, remedy}
}

// Tone is how bad the finding is.
func (f Finding) Tone() Tone {
	if f.Severity == SeverityError {
		return Bad
	}
	return Warn
}
