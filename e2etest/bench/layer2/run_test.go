package layer2

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"heraldlb.io/herald/e2etest/bench/stage"
)

// bench is this run: the lab that is up, and the figures so far.
var bench run

type run struct {
	scene *scene
	stage.Table
	// asked and doubled are the questions of all rounds in which no network is split, and how many of them two nodes
	// answered. Planned moves are counted by themselves: they may.
	asked, doubled               int
	askedPlanned, doubledPlanned int
	took                         time.Duration // of the doubled ones, outside planned moves
}

// on returns a lab with so many nodes: the one that is up, or a new one in its place. One in which a benchmark has failed, and
// left who knows what, serves no other.
func (r *run) on(b *testing.B, nodes int) *scene {
	b.Helper()
	b.Cleanup(func() {
		if !b.Failed() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := r.down(ctx); err != nil {
			b.Error(err)
		}
	})
	if r.scene != nil && len(r.scene.Nodes()) == nodes {
		return r.scene
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := r.down(ctx); err != nil {
		b.Fatal(err)
	}
	up, err := stage.Up(ctx, nodes)
	r.scene = &scene{Stage: up} // also one that is not complete is to be taken down
	if err == nil {
		err = r.scene.prepare(ctx)
	}
	if err != nil {
		b.Fatal(err)
	}
	return r.scene
}

func (r *run) down(ctx context.Context) error {
	if r.scene == nil {
		return nil
	}
	s := r.scene
	r.scene = nil
	return s.down(ctx)
}

// count adds a round's questions to those of all.
func (r *run) count(f findings, planned bool) {
	if planned {
		r.askedPlanned += f.questions
		r.doubledPlanned += f.doubled
		return
	}
	r.asked += f.questions
	r.doubled += f.doubled
	r.took += f.doubledFor
}

// write prints the table.
func (r *run) write(out io.Writer) {
	if r.asked+r.askedPlanned > 0 {
		r.Add("two MACs for one address", nil, fmt.Sprintf("%.2f s, %d of %d questions; in planned moves %d of %d",
			r.took.Seconds(), r.doubled, r.asked, r.doubledPlanned, r.askedPlanned))
	}
	r.Write(out)
}
