"""What `hoi train NETWORK --help` says below its options."""

HANDOS_HELP = """stages, in this order:
  1. crops     shards of synthetic hands, by './hoi train crops'; or --stream, which makes them while training
  2. mesh      config/handos_compact.yaml: joints, vertices and camera
  3. more      config/handos_more.yaml: goes on from runs/compact with more held things, then averages with it
  4. heads     config/handos_heads.yaml, then config/handos_last_heads.yaml: contact and masks on the weights that
               ship, which stay; shards with --detail
  One stage instead, on whole pictures before your own detector: config/handos_paper_2d.yaml (joints in 2D), then
  config/handos_paper.yaml, which starts from the checkpoint of the first (start_from).
  With the vertices of your own MANO file: 'crops --hand-model FILE', then config/handos_mano.yaml.

examples:
  ./hoi train crops --out SHARDS --shards 65
  ./hoi train crops --out SHARDS/held_out --shards 1 --seed 77              for scores
  ./hoi train handos --config config/handos_compact.yaml --data SHARDS --out runs/compact
  ./hoi train handos --config config/handos_stream.yaml --out runs/stream   no shards; meant for a GPU
  ./hoi train handos --config config/handos_paper_2d.yaml --detector DETECTOR --data SET --out runs/paper_2d
  ./hoi train handos --config config/handos_paper.yaml --detector DETECTOR --data SET --held-out OTHER --out runs/paper
  ./hoi run SOURCE --out mine --estimator handos --set hand_node.handos_weights=runs/compact/handos.npz

written to --out:
  handos.npz        weights in half precision, and a card: data, steps, whether they may be handed on
  checkpoint.pt     everything that a run goes on from
  losses.csv        every term of the loss by step; curves.png, drawn at the end
  pictures_*.png    predictions at step 50 and every training.score_steps: held-out data, or training's without any
  scores.jsonl      errors on held-out data at the same steps

resume: the same command goes on from checkpoint.pt, after a kill too; other settings need another --out.
settings: './hoi settings train.handos' lists what --config may hold; 'training.steps' is 'training: {steps: 9}',
and 'network: {base: paper}' takes the paper's sizes instead of the compact network's.
docs/handos.md explains data, licences and results.
"""

POINTMAP_HELP = """one stage: pairs of pictures are made on the simulator as they are used; no data is needed

examples:
  ./hoi train pointmap --out runs/pointmap
  ./hoi train pointmap --out runs/pointmap --steps 500              the same run's first 500 steps; say more to go on
  ./hoi train pointmap --out runs/small --set train.batch=4 --set network.image_px=64 --set train.workers=0
  ./hoi run SOURCE --out mine --set tracker_node.pointmap_network=runs/pointmap/pointmap_network.pt

written to --out:
  pointmap_network.pt    weights
  checkpoint.pt          everything that a run goes on from
  curve.jsonl            loss and its parts by step
  predictions_*.png      predictions at steps 1 and 20 and every train.picture_steps

resume: the same command goes on from checkpoint.pt, after a kill too; other settings need another --out.
settings: './hoi settings train.pointmap' lists what --set and --config may say.
docs/pointmap.md explains the network and its results.
"""
