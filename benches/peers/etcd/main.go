// The core load and the handle load on etcd's raft module, as JSON lines.
//
//	etcd-peer core BATCH PAYLOAD_BYTES MILLISECONDS   prints ns per entry
//	etcd-peer node CLIENTS MILLISECONDS               prints commands per second
package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

const (
	logEntriesKept = 10_000
	appendBytesMax = 1024 * 1024
	inflightsMax   = 256
)

func main() {
	numbers := make([]int, 0, 3)
	for _, text := range os.Args[min(2, len(os.Args)):] {
		number, err := strconv.Atoi(text)
		check(err)
		numbers = append(numbers, number)
	}
	switch {
	case len(os.Args) == 5 && os.Args[1] == "core":
		fmt.Println(measureCore(numbers[0], numbers[1], milliseconds(numbers[2])))
	case len(os.Args) == 4 && os.Args[1] == "node":
		fmt.Println(measureNode(numbers[0], milliseconds(numbers[1])))
	default:
		log.Fatal("usage: etcd-peer core BATCH PAYLOAD_BYTES MILLISECONDS | node CLIENTS MILLISECONDS")
	}
}

func milliseconds(count int) time.Duration {
	return time.Duration(count) * time.Millisecond
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func newConfig(id uint64, storage *raft.MemoryStorage) *raft.Config {
	return &raft.Config{
		ID:              id,
		ElectionTick:    10,
		HeartbeatTick:   1,
		Storage:         storage,
		MaxSizePerMsg:   appendBytesMax,
		MaxInflightMsgs: inflightsMax,
		CheckQuorum:     true,
		PreVote:         true,
		Logger:          &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)},
	}
}

// bootstrapped is the storage of a cluster whose voters are 1, 2 and 3.
func bootstrapped() *raft.MemoryStorage {
	storage := raft.NewMemoryStorage()
	index, term := uint64(1), uint64(1)
	check(storage.ApplySnapshot(&pb.Snapshot{Metadata: &pb.SnapshotMetadata{
		ConfState: &pb.ConfState{Voters: []uint64{1, 2, 3}},
		Index:     &index,
		Term:      &term,
	}}))
	return storage
}

// compact keeps the log at a bounded length.
func compact(storage *raft.MemoryStorage, applied uint64) {
	first, err := storage.FirstIndex()
	check(err)
	if applied >= first+2*logEntriesKept {
		check(storage.Compact(applied - logEntriesKept))
	}
}

type trio struct {
	nodes    [3]*raft.RawNode
	storages [3]*raft.MemoryStorage
	applied  [3]int
	messages []*pb.Message
}

func newTrio() *trio {
	t := &trio{}
	for i := range t.nodes {
		t.storages[i] = bootstrapped()
		node, err := raft.NewRawNode(newConfig(uint64(i+1), t.storages[i]))
		check(err)
		t.nodes[i] = node
	}
	check(t.nodes[0].Campaign())
	t.settle()
	if t.nodes[0].BasicStatus().RaftState != raft.StateLeader {
		log.Fatal("node 1 was not elected")
	}
	return t
}

func (t *trio) settle() {
	for moved := true; moved; {
		moved = false
		for i, node := range t.nodes {
			for node.HasReady() {
				t.carryOut(i)
				moved = true
			}
		}
		messages := t.messages
		t.messages = nil
		for _, message := range messages {
			check(t.nodes[message.GetTo()-1].Step(message))
			moved = true
		}
	}
}

func (t *trio) carryOut(i int) {
	ready := t.nodes[i].Ready()
	check(t.storages[i].Append(ready.Entries))
	if !raft.IsEmptyHardState(ready.HardState) {
		check(t.storages[i].SetHardState(ready.HardState))
	}
	t.messages = append(t.messages, ready.Messages...)
	for _, entry := range ready.CommittedEntries {
		if entry.GetType() == pb.EntryNormal && len(entry.Data) > 0 {
			t.applied[i]++
		}
	}
	t.nodes[i].Advance(ready)
	if count := len(ready.CommittedEntries); count > 0 {
		compact(t.storages[i], ready.CommittedEntries[count-1].GetIndex())
	}
}

func measureCore(batch, payloadBytes int, span time.Duration) float64 {
	t := newTrio()
	template := make([]byte, payloadBytes)
	for i := range template {
		template[i] = 7
	}
	entries := 0
	run := func(span time.Duration) time.Duration {
		begin := time.Now()
		for {
			for range 16 {
				for range batch {
					check(t.nodes[0].Propose(append([]byte(nil), template...)))
				}
				t.settle()
				entries += batch
			}
			if elapsed := time.Since(begin); elapsed >= span {
				return elapsed
			}
		}
	}
	run(span / 5)
	before := entries
	elapsed := run(span)
	for _, applied := range t.applied {
		if applied != entries {
			log.Fatalf("%d of %d commands were applied", applied, entries)
		}
	}
	return float64(elapsed.Nanoseconds()) / float64(entries-before)
}
