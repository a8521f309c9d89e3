package main

// Sequences of processes, receipts against logs, and witnesses against themselves.

import (
	"encoding/json"

	"golang.org/x/mod/sumdb/tlog"
)

// omitted looks for uses that a node signed a receipt of and does not have in its whole log.
func (j *judgement) omitted() {
	for _, n := range j.nodes {
		if n.whole < 0 {
			continue
		}
		for _, compact := range n.file.Receipts {
			payload, typ, _, err := openJWS(compact, n.keys)
			var receipt struct{ By, To string }
			if err != nil || typ != "shuyu-receipt+jws" || json.Unmarshal(payload, &receipt) != nil {
				continue
			}
			event := digest(payload)
			if receipt.By != n.file.DID || n.states("served", event) != nil {
				continue
			}
			by, known := j.receivedBy(receipt.To, event)
			if !known {
				continue
			}
			late := j.absentUntil(n, n.whole) > by+absenceTolerance
			for _, b := range j.bounds(n) {
				late = late || b.time > by+outboxTolerance
			}
			if late {
				j.convict("omitted", cosigned, n.file.DID)
			}
		}
	}
}

func (n *judgedNode) states(act, event string) *judgedStatement {
	for i := range n.statements {
		if n.statements[i].Act == act && n.statements[i].Event == event {
			return &n.statements[i]
		}
	}
	return nil
}

// receivedBy is the time by which the other party's log had the receipt.
func (j *judgement) receivedBy(did, event string) (uint64, bool) {
	for _, n := range j.nodes {
		if n.file.DID == did {
			if said := n.states("receipt", event); said != nil {
				return j.earliest(n, said.index)
			}
		}
	}
	return 0, false
}

type cosignedHead struct {
	head
	time uint64
}

// witnesses looks for cosignatures of one witness that cannot both be true.
func (j *judgement) witnesses() {
	if j.policy == nil {
		return
	}
	texts := map[string]bool{}
	for _, loose := range j.bundle.Heads {
		texts[loose] = true
	}
	for _, n := range j.nodes {
		for _, one := range n.heads {
			texts[one.note] = true
		}
	}
	for _, witness := range j.policy.witnesses {
		var all []cosignedHead
		for text := range texts {
			parsed, err := parseNote(text)
			if err != nil {
				continue
			}
			said, err := parseHead(parsed.text)
			if err != nil {
				continue
			}
			times, _ := witness.times(parsed)
			for _, time := range times {
				all = append(all, cosignedHead{said, time})
			}
		}
		if lies(all) || j.liesAboutPrefixes(all) {
			j.convict("lying-witness", signed, witness.text)
		}
	}
}

func lies(all []cosignedHead) bool {
	for _, a := range all {
		for _, b := range all {
			if a.origin != b.origin {
				continue
			}
			if a.tree.N == b.tree.N && a.tree.Hash != b.tree.Hash {
				return true
			}
			if a.tree.N < b.tree.N && a.time > b.time+clockTolerance {
				return true
			}
		}
	}
	return false
}

func (j *judgement) liesAboutPrefixes(all []cosignedHead) bool {
	has := func(origin string, test func(tlog.Tree) bool) bool {
		for _, one := range all {
			if one.origin == origin && test(one.tree) {
				return true
			}
		}
		return false
	}
	for _, n := range j.nodes {
		for _, f := range n.facts {
			large := has(f.of.origin, func(t tlog.Tree) bool { return t == f.of.tree })
			small := has(f.of.origin, func(t tlog.Tree) bool { return t.N == f.size && t.Hash != f.root })
			if large && small {
				return true
			}
		}
	}
	return false
}

// process is what a log says about one process with one other party.
type process struct {
	seen     map[string]bool // act and event
	sent     map[int64]string
	decided  map[int64]bool
	messages int64
	uses     int64
}

// sequences checks that a whole log numbers the messages and the uses of each process 1, 2, 3 ...
func (j *judgement) sequences(n *judgedNode) error {
	if n.whole < 0 {
		return nil
	}
	all := map[[2]string]*process{}
	for _, said := range n.statements {
		seq, err := said.Seq.Int64()
		if err != nil {
			return err
		}
		if said.With == n.file.DID {
			continue
		}
		name := [2]string{said.With, said.Process}
		if all[name] == nil {
			all[name] = &process{seen: map[string]bool{}, sent: map[int64]string{}, decided: map[int64]bool{}}
		}
		if kind := all[name].next(said, seq); kind != "" {
			j.convict(kind, signed, n.file.DID)
		}
	}
	return nil
}

// next takes a statement and says what it is convicted of, if anything.
func (p *process) next(said judgedStatement, seq int64) string {
	switch said.Act {
	case "sent", "received", "withdrawn", "decided", "served", "receipt":
	default:
		return ""
	}
	mark := func(act string) string { return act + " " + said.Event }
	if p.seen[mark(said.Act)] {
		return "replayed"
	}
	p.seen[mark(said.Act)] = true
	count := func(last *int64) bool {
		due := *last + 1
		if seq > *last {
			*last = seq
		}
		return seq == due
	}
	good := true
	switch said.Act {
	case "sent":
		good = count(&p.messages)
		delete(p.seen, mark("withdrawn"))
		p.sent[seq] = said.Event
	case "received":
		good = count(&p.messages)
	case "withdrawn":
		// It takes back the last message, which may then be sent again.
		good = p.messages == seq && p.sent[seq] == said.Event
		if good {
			delete(p.sent, seq)
			p.messages--
		}
		delete(p.seen, mark("sent"))
	case "decided":
		good = count(&p.uses)
		p.decided[seq] = true
	case "served":
		good = p.decided[seq]
	}
	if !good {
		return "out-of-sequence"
	}
	return ""
}
