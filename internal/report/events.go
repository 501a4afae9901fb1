package report

import (
	"cmp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
)

// Event is something that Herald told of an object.
type Event struct {
	Time   time.Time `json:"time"`
	Type   string    `json:"type"`
	Reason string    `json:"reason"`
	Kind   string    `json:"kind"`
	Name   string    `json:"name"` // with the namespace, if the object has one
	Note   string    `json:"note"`
	From   string    `json:"from"` // which of Herald's processes told it
}

// reporter begins the names of all of Herald's reporting controllers.
const reporter = "heraldlb.io/"

// Tells tells whether an event is one of Herald's.
func Tells(e *eventsv1.Event) bool { return strings.HasPrefix(e.ReportingController, reporter) }

// Events returns what Herald told, the oldest first; with about, of the object of that name only, and with warnings,
// what needs attention only.
func Events(s *Snapshot, about string, warnings bool) []Event {
	out := []Event{}
	for _, e := range s.Events {
		if !Tells(&e) || warnings && e.Type != corev1.EventTypeWarning {
			continue
		}
		one := Event{eventTime(&e), e.Type, e.Reason, e.Regarding.Kind, e.Regarding.Name, e.Note, e.ReportingInstance}
		if e.Regarding.Namespace != "" {
			one.Name = e.Regarding.Namespace + "/" + one.Name
		}
		if about == "" || about == one.Name || strings.EqualFold(about, one.Kind+"/"+one.Name) {
			out = append(out, one)
		}
	}
	slices.SortStableFunc(out, func(x, y Event) int { return cmp.Or(x.Time.Compare(y.Time), cmp.Compare(x.Name, y.Name)) })
	return out
}

// eventTime is when an event happened last.
func eventTime(e *eventsv1.Event) time.Time {
	switch {
	case e.Series != nil:
		return e.Series.LastObservedTime.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}

// EventHead is the head of EventRows.
var EventHead = []string{"AGE", "TYPE", "REASON", "OBJECT", "NOTE"}

// EventRows are events as a table.
func EventRows(now time.Time, events []Event) [][]Cell {
	var rows [][]Cell
	for _, e := range events {
		tone := Plain
		if e.Type == corev1.EventTypeWarning {
			tone = Warn
		}
		rows = append(rows, []Cell{{Text: Age(now, e.Time)}, {e.Type, tone}, {Text: e.Reason}, {Text: e.Kind + "/" + e.Name}, {Text: e.Note}})
	}
	return rows
}
