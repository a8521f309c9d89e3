package main

// What needs more than one party: receipts against logs, and witnesses against themselves.

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
