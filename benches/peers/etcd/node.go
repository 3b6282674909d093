// etcd's `Node` behind channels: three nodes, a goroutine each for the Ready
// loop, and clients that wait until their command is applied.
package main

import (
	"context"
	"encoding/binary"
	"log"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

const messagesWaitingMax = 4096

type server struct {
	node    raft.Node
	storage *raft.MemoryStorage
	inbox   chan *pb.Message
	peers   *[3]*server
	// Who waits, by the number at the head of the command. Only the leader
	// answers.
	waiting sync.Map
	answers bool
}

func (s *server) run(ctx context.Context) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.node.Tick()
		case ready := <-s.node.Ready():
			s.carryOut(ready)
		}
	}
}

func (s *server) receive(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case message := <-s.inbox:
			_ = s.node.Step(ctx, message)
		}
	}
}

func (s *server) carryOut(ready raft.Ready) {
	check(s.storage.Append(ready.Entries))
	if !raft.IsEmptyHardState(ready.HardState) {
		check(s.storage.SetHardState(ready.HardState))
	}
	for _, message := range ready.Messages {
		select {
		case s.peers[message.GetTo()-1].inbox <- message:
		default:
			s.node.ReportUnreachable(message.GetTo())
		}
	}
	for _, entry := range ready.CommittedEntries {
		if entry.GetType() == pb.EntryNormal && len(entry.Data) > 0 && s.answers {
			number := binary.LittleEndian.Uint64(entry.Data)
			if done, ok := s.waiting.LoadAndDelete(number); ok {
				done.(chan struct{}) <- struct{}{}
			}
		}
	}
	s.node.Advance()
	if count := len(ready.CommittedEntries); count > 0 {
		compact(s.storage, ready.CommittedEntries[count-1].GetIndex())
	}
}

func measureNode(clients int, span time.Duration) float64 {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var servers [3]*server
	for i := range servers {
		storage := bootstrapped()
		servers[i] = &server{
			node:    raft.RestartNode(newConfig(uint64(i+1), storage)),
			storage: storage,
			inbox:   make(chan *pb.Message, messagesWaitingMax),
			peers:   &servers,
			answers: i == 0,
		}
	}
	for _, s := range servers {
		go s.run(ctx)
		go s.receive(ctx)
	}
	leader := servers[0]
	check(leader.node.Campaign(ctx))
	for deadline := time.Now().Add(10 * time.Second); leader.node.Status().Lead != 1; {
		if time.Now().After(deadline) {
			log.Fatal("node 1 was not elected")
		}
		time.Sleep(time.Millisecond)
	}

	var numbers, done atomic.Uint64
	for range clients {
		go func() {
			applied := make(chan struct{}, 1)
			for ctx.Err() == nil {
				number := numbers.Add(1)
				command := make([]byte, 16)
				binary.LittleEndian.PutUint64(command, number)
				leader.waiting.Store(number, applied)
				if leader.node.Propose(ctx, command) != nil {
					return
				}
				select {
				case <-applied:
					done.Add(1)
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	time.Sleep(span / 4)
	begin, before := time.Now(), done.Load()
	time.Sleep(span)
	return float64(done.Load()-before) / time.Since(begin).Seconds()
}
