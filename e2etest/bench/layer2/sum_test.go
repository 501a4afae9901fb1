package layer2

import (
	"slices"
	"testing"
	"time"
)

// silent is when an unanswered question counts: who asks in earnest asks again after a second.
const silent = time.Second

// silences are the times from a question that nobody answered until the next answer, or the end: how many lasted longer than
// silent, and the longest.
func silences(asked []time.Time, said []answer, ended time.Time) (count int, longest time.Duration) {
	answered := 0 // the last question that was, counted from 1
	until := func(at time.Time) {
		d := at.Sub(asked[answered])
		if d > silent {
			count++
		}
		longest = max(longest, d)
	}
	for _, a := range said {
		if a.question > answered {
			until(a.at)
			answered = a.question
		}
	}
	if answered < len(asked) {
		until(ended)
	}
	return count, longest
}

// doubled is how many questions were answered with more than one node's MAC.
func doubled(said []answer) (questions int) {
	for _, of := range byQuestion(said) {
		if slices.ContainsFunc(of, func(a answer) bool { return a.node != of[0].node }) {
			questions++
		}
	}
	return questions
}

// lastDoubled is how long after a time a question was answered with more than one node's MAC for the last time, and how
// many were since then.
func lastDoubled(said []answer, since time.Time) (after time.Duration, questions int) {
	i := slices.IndexFunc(said, func(a answer) bool { return !a.at.Before(since) })
	if i < 0 {
		return 0, 0
	}
	for _, of := range byQuestion(said[i:]) {
		if doubled(of) > 0 {
			after, questions = of[len(of)-1].at.Sub(since), questions+1
		}
	}
	return after, questions
}

// byQuestion groups answers, which come in the order of the questions.
func byQuestion(said []answer) [][]answer {
	var groups [][]answer
	for i, a := range said {
		if i == 0 || a.question != said[i-1].question {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], a)
	}
	return groups
}

// handover is the last answer with a node's MAC and the first that came with another's after it; zero where there is none.
func handover(said []answer, old string) (last, next answer) {
	for _, a := range said {
		switch {
		case a.node == old:
			last, next = a, answer{}
		case next.node == "":
			next = a
		}
	}
	return last, next
}

func TestSilencesLastFromAQuestionToTheNextAnswer(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }
	asked := []time.Time{at(0), at(500), at(1000), at(1500), at(2000)}
	for story, c := range map[string]struct {
		said    []answer
		count   int
		longest time.Duration
	}{
		"nobody ever answers":              {nil, 1, 2100 * time.Millisecond},
		"every question is answered":       {[]answer{{at(1), 1, ""}, {at(501), 2, ""}, {at(1001), 3, ""}, {at(1502), 4, ""}, {at(2001), 5, ""}}, 0, 2 * time.Millisecond},
		"one question is not":              {[]answer{{at(1), 1, ""}, {at(1001), 3, ""}, {at(1501), 4, ""}, {at(2001), 5, ""}}, 0, 501 * time.Millisecond},
		"three are not":                    {[]answer{{at(1), 1, ""}, {at(2001), 5, ""}}, 1, 1501 * time.Millisecond},
		"late at first, and never at last": {[]answer{{at(1001), 3, ""}}, 1, 1001 * time.Millisecond},
		"answered by two":                  {[]answer{{at(1), 1, "n1"}, {at(2), 1, "n2"}, {at(2001), 5, "n2"}}, 1, 1501 * time.Millisecond},
	} {
		if count, longest := silences(asked, c.said, at(2100)); count != c.count || longest != c.longest {
			t.Errorf("%s: %d silences, the longest %v; want %d and %v", story, count, longest, c.count, c.longest)
		}
	}
}

func TestTwoNodesAnswerOneQuestion(t *testing.T) {
	said := []answer{
		{question: 1, node: "n1"}, {question: 2, node: "n1"}, {question: 2, node: "n1"}, // a repeated answer is none of two
		{question: 3, node: "n1"}, {question: 3, node: "n2"},
		{question: 4, node: "n2"}, {question: 7, node: "n3"}, {question: 7, node: "n2"}, {question: 7, node: "n3"},
	}
	if n := doubled(said); n != 2 {
		t.Errorf("%d questions were answered by two nodes, want 2", n)
	}
	if n := doubled(nil); n != 0 {
		t.Errorf("%d questions of none were answered by two nodes", n)
	}
}

func TestAHandoverIsFromTheLastOfOneToTheFirstOfAnother(t *testing.T) {
	said := []answer{{question: 1, node: "n1"}, {question: 2, node: "n2"}, {question: 3, node: "n1"}, {question: 4, node: "n3"}, {question: 5, node: "n3"}}
	if last, next := handover(said, "n1"); last.question != 3 || next.question != 4 || next.node != "n3" {
		t.Errorf("from %+v to %+v, want questions 3 and 4", last, next)
	}
	if last, next := handover(said[:1], "n1"); last.question != 1 || next != (answer{}) {
		t.Errorf("from %+v to %+v, want question 1 and nothing", last, next)
	}
}

func TestTheLastDoubleAnswerIsCountedFromHealing(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }
	said := []answer{
		{at(0), 1, "n1"}, {at(1), 1, "n2"}, // before
		{at(20), 2, "n1"}, {at(21), 2, "n2"},
		{at(40), 3, "n2"}, {at(45), 3, "n1"},
		{at(60), 4, "n2"},
	}
	if after, n := lastDoubled(said, at(10)); after != 35*time.Millisecond || n != 2 {
		t.Errorf("the last of %d double answers came %v after healing, want 2 and 35ms", n, after)
	}
	if after, n := lastDoubled(said, at(50)); after != 0 || n != 0 {
		t.Errorf("the last of %d double answers came %v after healing, want none", n, after)
	}
}
