// Command bench measures Bellhop. Every figure is a line
//
//	figure NAME VALUE LIMIT
//
// where VALUE is the median of several runs, a ratio where two things are compared (both measured in this run, in turn), and LIMIT is what it is held to
// ("<=1.25", ">=0.45", or "-" for none). A NAME that ends in "-icount" is measured in a machine whose clock counts its instructions. It exits 0 whatever the
// values are, 1 if something could not be measured.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
)

// figure is one line of the output.
type figure struct {
	name    string
	limit   string
	measure func(ctx context.Context, b *bench) (float64, error)
}

// figures are all there are, in the order in which they are printed.
func figures() []figure {
	return slices.Concat(sizeFigures(), bootFigures(), throughputFigures(), latencyFigures(), scaleFigures(), labFigures(false), labFigures(true))
}

func main() {
	names := flag.String("figures", "", "comma-separated names of the figures to measure; empty: all")
	runs := flag.Int("runs", 5, "runs of each side of a figure")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, *names, *runs); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, names string, runs int) error {
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	b := &bench{runs: max(runs, 1), log: os.Stderr, labs: map[bool]*lab{}}
	defer b.close()
	failed := 0
	for _, f := range chosen {
		v, err := f.measure(ctx, b)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench: cannot measure %s: %v\n", f.name, err)
			failed++
			continue
		}
		fmt.Fprintf(out, "figure %s %.3g %s\n", f.name, v, f.limit)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d figures could not be measured", failed, len(chosen))
	}
	return nil
}

func choose(names string) ([]figure, error) {
	all := figures()
	if names == "" {
		return all, nil
	}
	var chosen []figure
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(all, func(f figure) bool { return f.name == name })
		if i < 0 {
			var known []string
			for _, f := range all {
				known = append(known, f.name)
			}
			return nil, fmt.Errorf("no figure is named %q; there are %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}
