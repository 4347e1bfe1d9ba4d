# Everything a person does here, by name: `make help`. The recipes only call the project's own commands.
# From a bare machine each target brings what it needs; what is done already is not done again.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# The code runs from the source tree.
export PYTHONPATH := .:protos/gen:protos/client
export PYTHONUNBUFFERED := 1

NAME ?= local
PORT_OFFSET ?= 0
# What a cluster serves from; it remembers a repository of one's own (make up REPOSITORY=path).
REPOSITORY ?= $(or $(shell cat "build/$(NAME)/repository" 2>/dev/null),model_repository)
CLUSTER := .venv-services/bin/python -m deploy.local --name $(NAME) --port-offset $(PORT_OFFSET)
RELEASES = .venv-services/bin/python -m deploy.releases
WHERE = --repository "$(REPOSITORY)" --triton 127.0.0.1:$$((8001 + $(PORT_OFFSET))) \
    --kafka 127.0.0.1:$$((9092 + $(PORT_OFFSET))) \
    $(addprefix --certificates ,$(wildcard build/$(NAME)/certificates/releases))
INSTALL := sh deploy/local/install.sh
TIMED := sh deploy/local/timed.sh
KAFKA_JARS := build/kafka-jars
INSTALLED := prerequisites .venv/installed .venv-services/installed .venv-triton/installed $(KAFKA_JARS)/fetched
K8S_TOOLS := build/k8s/made
PAYMENTS := build/payments/made
RTX := build/tensorrt-rtx/.unpacked
EXPORT := model_repository/releases/.exported
# What an export depends on: weights, contracts, and the code of the models.
EXPORTED := $(shell find training/weights model_repository/*/config.pbtxt contract training/models training/exporting \
    training/wishes/preferences.py -type f \
    -not -name '*.pyc' 2>/dev/null | tr '\n' ' ')
ifeq ($(REPOSITORY),model_repository)
STAGED := $(EXPORT)
endif

.PHONY: help items-histories bench-orders demo studio test test-platform test-others test-slow chromium studio-pictures bench-studio up down restart token renew status logs release-status release-load release-trial release-end-trial release-promote release-rollback release-history restore-drill fuzz loop setup export lint licences payments-check k8s-check k8s-e2e tensorrt-check tensorrt-plans protos client-wheel train-tiny eval-reward eval-generation \
    eval-samplers eval-suggestions eval-lift eval-orders bench-reward bench-reward-full bench-generator bench-generator-full bench-picks bench-capacity bench-serving race bench-health soak clean prerequisites

help: ## this list
	@echo "PerFusion: personalised fashion pictures, end to end on one machine"
	@echo
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-26s %s\n", $$1, $$2}'
	@echo
	@echo "  NAME=local PORT_OFFSET=0 choose another cluster: make up NAME=second PORT_OFFSET=100"
	@echo "  REPOSITORY=path          serve a model repository of your own: make up REPOSITORY=path"

demo: ## set up, export, start, and play the case study into build/demo/
	@$(TIMED) setup $(MAKE) setup
	@$(TIMED) export $(MAKE) setup $(STAGED)
	@$(TIMED) start $(MAKE) up
	@.venv/bin/python -m deploy.demo --name $(NAME) --port-offset $(PORT_OFFSET) --model-repository "$(REPOSITORY)"

# These share a cluster, a broker or an export: one process, which is the longest way and goes first. Beside it, with what
# it leaves of the cores, everything else. Its output comes at the end.
PLATFORM := tests/integration tests/deploy/releases $(wildcard tests/deploy/test_*.py) tests/deploy/tensorrt \
    tests/training/exporting tests/training/retraining tests/lab/generation/test_served.py

test: setup ## everything the CI checks: style, types, contracts, tests on the real parts
	@mkdir -p build
	@$(MAKE) test-platform > build/test-platform.log 2>&1 & platform=$$!; trap "kill $$platform" INT TERM; \
	nice -n 5 $(MAKE) lint || { kill $$platform; exit 2; }; \
	nice -n 5 $(MAKE) test-others; others=$$?; \
	wait $$platform; platform=$$?; cat build/test-platform.log; exit $$((others + platform))

test-platform: export chromium
	@env --default-signal=INT .venv/bin/python -m pytest $(PLATFORM)

test-others: setup $(K8S_TOOLS)
	@OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile $(addprefix --ignore=,$(PLATFORM))

test-slow: $(EXPORT) ## the tests that take a minute and more each
	@.venv/bin/python -m pytest -m slow

up: setup $(STAGED) ## start the cluster on the live release, the first time on the newest; returns when every part is healthy
	@$(CLUSTER) --model-repository "$(REPOSITORY)" up

studio: up ## the merchant's page on the running platform, with two stores that have a history; prints its address
	@.venv/bin/python -m deploy.demo.studio --name $(NAME) --port-offset $(PORT_OFFSET)

down: ## stop the cluster, letting calls in flight finish
	@if [ -x .venv-services/bin/python ]; then $(CLUSTER) down; fi

restart: setup ## stop and start PART=name, or every part in turn
	@$(CLUSTER) restart $(PART)

token: setup ## a token for MERCHANTS="store-1 store-2", or for all, for a day
	@$(CLUSTER) token $(MERCHANTS)

renew: setup ## new certificates for every part and the client, while the platform runs
	@$(CLUSTER) renew

status: setup ## parts, addresses, health
	@$(CLUSTER) status

logs: setup ## follow the logs, of PART=name or of all
	@$(CLUSTER) logs $(PART)

release-status: setup ## each release: how far it has come, what it serves as, its verdicts, what is wrong with it
	@$(RELEASES) status $(WHERE)

release-load: setup ## check release R=number and load it beside the live one
	@$(RELEASES) load $(or $(R),$(error which release? make release-load R=number)) $(WHERE)

release-trial: setup ## let the loaded release R=number draw half of the candidates in SHARE=0.5 of requests
	@$(RELEASES) trial $(or $(R),$(error which release? make release-trial R=number SHARE=0.5)) \
	    --share $(or $(SHARE),$(error which share of requests? make release-trial R=$(R) SHARE=0.5)) $(WHERE)

release-end-trial: setup ## take the release on trial out of service
	@$(RELEASES) end-trial $(WHERE)

release-promote: setup ## put the loaded release R=number in service; the one before becomes the fallback
	@$(RELEASES) promote $(or $(R),$(error which release? make release-promote R=number)) $(WHERE)

release-rollback: setup ## put the fallback in service again, end a trial
	@$(RELEASES) rollback $(WHERE)

release-history: setup ## every change of what serves: when, what, why, by whom
	@$(RELEASES) history $(WHERE)

fuzz: setup $(EXPORT) ## 10,000 malformed requests to every method of a platform of its own: build/fuzz
	@.venv/bin/python -m deploy.fuzzing

restore-drill: setup $(EXPORT) ## a back-up under traffic, the loss of everything, a restore, and the proof: build/restore-drill
	@.venv/bin/python -m deploy.backup drill

loop: setup $(EXPORT) ## simulated merchants' picks become releases under traffic, three turns, into build/loop; hours, resumable
	@.venv/bin/python -m deploy.loop play

setup: $(INSTALLED) ## make the virtual environments, fetch Kafka's jars

chromium: ## Debian's Chromium, for the tests and pictures of the merchant's page; installs it only as root
	@sh deploy/local/chromium.sh

studio-pictures: studio chromium ## the running page as the docs show it, into docs/pictures
	@.venv/bin/python -m deploy.demo.studio_pictures --name $(NAME) --port-offset $(PORT_OFFSET)

bench-orders: $(EXPORT) ## orders a minute of one item by many buyers at once: is it oversold? build/bench/orders.json; minutes
	@.venv/bin/python -m deploy.benchmarks.orders

bench-studio: $(EXPORT) chromium ## the page's first picture against the API's, and 200 readers of 50 rounds; minutes, idle machine
	@.venv/bin/python -m deploy.benchmarks.studio

export: setup $(EXPORT) ## stage a release in model_repository/; nothing that serves changes

lint: setup ## ruff, mypy, import-linter, buf (lint and breaking), proto drift
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	.venv/bin/buf lint
	.venv/bin/buf breaking --against protos/published.binpb
	.venv/bin/python protos/generate.py --check

licences: setup ## under which licences the images' packages are; fails on the GPL
	@.venv/bin/python -m deploy.licences

payments-check: setup $(PAYMENTS) ## the Stripe adapter against localstripe and stripe-mock, programs of their own; builds them the first time
	@.venv/bin/python -m pytest tests/services/items/test_payments_contract.py tests/services/items/adapters/test_stripe_mock.py

k8s-check: setup $(K8S_TOOLS) ## the manifests and Dockerfiles, against their schemas and against the code
	@.venv/bin/python -m pytest tests/deploy/k8s

tensorrt-check: setup $(RTX) $(EXPORT) ## the graphs against TensorRT's parser and builder, as far as they need no GPU; minutes, 150 MB
	@.venv/bin/python -m pytest tests/deploy/tensorrt

tensorrt-plans: $(EXPORT) ## on a machine with a GPU and TensorRT: builds a plan of every model, checks it, keeps nothing
	@.venv/bin/python -m deploy.tensorrt check

k8s-e2e: setup $(K8S_TOOLS) $(EXPORT) ## the manifests on a real control plane and as real pods; root; it builds Kubernetes the first time, into build/cluster
	@sh deploy/cluster/programs.sh
	@sh deploy/cluster/images.sh
	@.venv/bin/python -m deploy.cluster .venv/bin/python -m pytest tests/deploy/cluster/test_simulated_nodes.py
	@.venv/bin/python -m deploy.cluster .venv/bin/python -m pytest tests/deploy/cluster/test_real_nodes.py

protos: setup ## regenerate protos/gen from protos/perfusion
	.venv/bin/python protos/generate.py

items-histories: setup ## HISTORIES=10000 of presales that nobody thought of, with crashes, on PostgreSQL; hours
	@ITEMS_HISTORIES=$(or $(HISTORIES),10000) .venv/bin/python -m pytest -s tests/services/items/test_settling_histories.py -k postgresql

client-wheel: setup ## the wheel of stubs and client, for other teams, into build/dist
	.venv/bin/python protos/wheel.py build/dist

train-tiny: setup ## train the tiny family from nothing into training/weights/tiny, resumable; hours
	.venv/bin/python -m lab.tiny

eval-reward: setup ## the preference table: every reward model, five seeds, into build/eval/reward.json; hours, resumable
	.venv/bin/python -m lab.preference.table

bench-reward: setup ## groups a second of PerFusionRM's training against plain loops
	.venv/bin/python -m lab.benchmarks.reward_throughput

eval-generation: setup ## the generation table: every method, three seeds, into build/eval/generation.json; many hours, resumable
	.venv/bin/python -m lab.generation.table

eval-samplers: $(EXPORT) ## what the default sampler and steps are chosen by, into build/eval/samplers.json; an hour, resumable
	.venv/bin/python -m lab.generation.samplers

eval-suggestions: $(EXPORT) ## SuggestPhrases against the truth, on services of its own, into build/eval/suggestions.json
	.venv/bin/python -m deploy.benchmarks.phrase_suggestions

eval-lift: setup ## the lift's A/A gate and a rating's intervals, where the truth is known, into build/eval; minutes on one core
	.venv/bin/python -m lab.shop.lift_check
	.venv/bin/python -m lab.shop.rating_check

eval-orders: setup ## what it does that orders count beside picks, in simulated shops, into build/eval/order_weight.json; six minutes on one core
	.venv/bin/python -m lab.shop.order_weight

bench-health: $(EXPORT) ## every part fails in turn: was health true? 15 minutes, root; docs/pictures/health.png
	.venv/bin/python -m deploy.benchmarks.health_run
	.venv/bin/python -m deploy.benchmarks.health_strips

soak: $(EXPORT) ## 2,000 rounds with cancels, references and kills, 10,000 steps of mixed batches: does anything grow? build/bench/soak.png
	.venv/bin/python -m deploy.benchmarks.soak

bench-picks: $(EXPORT) ## picks a second of feedback against its Kafka library alone, into build/bench/picks.json; minutes
	.venv/bin/python -m deploy.benchmarks.picks

bench-capacity: $(EXPORT) ## what a round costs here, and a real overload beside the simulated one; minutes, idle machine
	.venv/bin/python -m deploy.benchmarks.capacity

bench-serving: $(EXPORT) ## throughput, small beside large rounds, a flood, an overload; a quarter of an hour, idle machine
	.venv/bin/python -m deploy.benchmarks.serving

race: $(EXPORT) build/race/venv/installed ## CPU a picture beside diffusers, optimum-onnx, OpenVINO, Ray Serve, BentoML, LitServe; half an hour
	.venv/bin/python -m lab.benchmarks.race

bench-generator: setup ## groups a second of PerFusion's training against plain loops
	.venv/bin/python -m lab.benchmarks.generator_throughput

bench-generator-full: setup ## Stable Diffusion 1.5's size: one PerFusion step, the export, a round through Triton; 10 to 30 minutes, 18 GiB
	.venv/bin/python -m lab.benchmarks.full_size_generator
	.venv/bin/python -m deploy.benchmarks.full_size_serving

bench-reward-full: setup ## one training step and one export of PerFusionRM on ViT-H/14; 8 GiB
	.venv/bin/python -m lab.benchmarks.full_size_reward

clean: ## stop the cluster `local`; remove it, exports and demonstrations; environments and training runs stay
	@$(MAKE) down NAME=local PORT_OFFSET=0
	rm -rf build/local build/test build/demo build/timings build/triton-backends
	rm -rf $(wildcard model_repository/*/[0-9]*) model_repository/releases

prerequisites:
	@sh deploy/local/prerequisites.sh

.venv/installed: requirements.lock deploy/local/install.sh | prerequisites
	@$(INSTALL) .venv $<
	@touch $@

.venv-services/installed: deploy/images/requirements-services.lock deploy/local/install.sh | prerequisites
	@$(INSTALL) .venv-services $<
	@touch $@

.venv-triton/installed: deploy/local/triton/requirements.lock deploy/local/install.sh | prerequisites
	@$(INSTALL) .venv-triton $<
	@touch $@

build/race/venv/installed: lab/benchmarks/race/requirements.lock deploy/local/install.sh | prerequisites
	@$(INSTALL) $(@D) $<
	@touch $@

$(KAFKA_JARS)/fetched: deploy/local/kafka/pom.xml | prerequisites
	@echo "fetching Kafka's jars with Maven"
	@mvn -q -B -Dstyle.color=never -f $< dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=$(CURDIR)/$(KAFKA_JARS)
	@touch $@

$(K8S_TOOLS): deploy/k8s/tools.sh deploy/k8s/strimzi/pom.xml | .venv/installed
	@rm -rf build/go/bin build/k8s
	@sh deploy/k8s/tools.sh
	@touch $@

$(PAYMENTS): tests/services/items/localstripe.lock tests/services/items/stripe_mock.sh deploy/local/install.sh | .venv/installed
	@$(INSTALL) $(@D)/localstripe $<
	@sh tests/services/items/stripe_mock.sh $(@D)/bin
	@touch $@

$(RTX): tests/deploy/tensorrt/rtx.lock | .venv/installed
	@rm -rf $(@D)
	@build/bootstrap/bin/pip install -q --disable-pip-version-check --require-hashes --no-deps --target $(@D) -r $<
	@touch $@

$(EXPORT): $(EXPORTED) | setup
	@echo "exporting the models to ONNX"
	@.venv/bin/python -m training.exporting.export
	@touch $@
