BEGIN TRANSACTION;
CREATE TABLE artifact (
	id VARCHAR(36) NOT NULL, 
	step_id VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	uri TEXT NOT NULL, 
	type VARCHAR(512) NOT NULL, 
	materializer VARCHAR(64) NOT NULL, 
	created BIGINT NOT NULL, 
	CONSTRAINT pk_artifact PRIMARY KEY (id), 
	CONSTRAINT fk_artifact_step_id FOREIGN KEY(step_id) REFERENCES run_step (id) ON DELETE CASCADE, 
	CONSTRAINT uq_artifact_step_id_name UNIQUE (step_id, name)
);
INSERT INTO "artifact" VALUES('795c2984-ef80-454b-96d7-f61284c796fc','d7468b24-03bf-4abb-9fbc-6c8cd32273e0','model','/artifacts/model','builtins.dict','json',1795268247732000);
INSERT INTO "artifact" VALUES('4c71979b-4e2b-482f-957e-a46d466adbd0','3e9f61ef-d1aa-4695-a939-c832ae235821','model','/artifacts/model','builtins.dict','json',1795268247734000);
CREATE TABLE component (
	id VARCHAR(36) NOT NULL, 
	type VARCHAR(32) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	flavor VARCHAR(255) NOT NULL, 
	config JSON NOT NULL, 
	created BIGINT NOT NULL, 
	updated BIGINT NOT NULL, 
	CONSTRAINT pk_component PRIMARY KEY (id), 
	CONSTRAINT uq_component_type_name UNIQUE (type, name)
);
INSERT INTO "component" VALUES('231ae80b-e9a7-43d9-9124-6fe70b19a141','model_deployer','kept','remote','{"endpoint": "https://models.example.org", "token": "{{stackkit-private-231ae80b-e9a7-43d9-9124-6fe70b19a141-1.token}}", "password": "{{kept-secret.password}}"}',1795268247714000,1795268247714000);
INSERT INTO "component" VALUES('0a3b0eaf-273c-4ae1-99d8-65726a336313','artifact_store','default','local','{}',1795268247716000,1795268247716000);
INSERT INTO "component" VALUES('d1c9ee2e-072b-4883-980b-7caf59df27fc','orchestrator','default','local','{}',1795268247716000,1795268247716000);
CREATE TABLE flavor (
	id VARCHAR(36) NOT NULL, 
	type VARCHAR(32) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	source VARCHAR(512) NOT NULL, 
	folder TEXT, 
	created BIGINT NOT NULL, 
	CONSTRAINT pk_flavor PRIMARY KEY (id), 
	CONSTRAINT uq_flavor_type_name UNIQUE (type, name)
);
INSERT INTO "flavor" VALUES('5d1f3a51-0000-4000-8000-000000000001','model_deployer','ours','our_flavor:OurFlavor','/srv/flavors',1795268247723000);
CREATE TABLE meta (
	"key" VARCHAR(64) NOT NULL, 
	value TEXT NOT NULL, 
	CONSTRAINT pk_meta PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('secret_key_fingerprint','636e9a8e5b729c73');
CREATE TABLE run (
	id VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	pipeline_name VARCHAR(255) NOT NULL, 
	stack_name VARCHAR(255) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	parameters JSON NOT NULL, 
	started BIGINT NOT NULL, 
	ended BIGINT, 
	CONSTRAINT pk_run PRIMARY KEY (id), 
	CONSTRAINT uq_run_name UNIQUE (name)
);
INSERT INTO "run" VALUES('7c0e6b1a-1111-4222-8333-444455556666','kept-run','training','kept-stack','completed','{"alpha": 0.5}',1795268247730000,1795268247734000);
CREATE TABLE run_metadata (
	step_id VARCHAR(36) NOT NULL, 
	"key" VARCHAR(255) NOT NULL, 
	value JSON NOT NULL, 
	CONSTRAINT pk_run_metadata PRIMARY KEY (step_id, "key"), 
	CONSTRAINT fk_run_metadata_step_id FOREIGN KEY(step_id) REFERENCES run_step (id) ON DELETE CASCADE
);
INSERT INTO "run_metadata" VALUES('d7468b24-03bf-4abb-9fbc-6c8cd32273e0','accuracy',0.97);
INSERT INTO "run_metadata" VALUES('3e9f61ef-d1aa-4695-a939-c832ae235821','accuracy',0.97);
CREATE TABLE run_step (
	id VARCHAR(36) NOT NULL, 
	run_id VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	position INTEGER NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	started BIGINT, 
	ended BIGINT, 
	error TEXT, 
	CONSTRAINT pk_run_step PRIMARY KEY (id), 
	CONSTRAINT fk_run_step_run_id FOREIGN KEY(run_id) REFERENCES run (id) ON DELETE CASCADE, 
	CONSTRAINT uq_run_step_run_id_name UNIQUE (run_id, name)
);
INSERT INTO "run_step" VALUES('d7468b24-03bf-4abb-9fbc-6c8cd32273e0','7c0e6b1a-1111-4222-8333-444455556666','train',0,'completed',1795268247731000,1795268247731000,NULL);
INSERT INTO "run_step" VALUES('3e9f61ef-d1aa-4695-a939-c832ae235821','7c0e6b1a-1111-4222-8333-444455556666','deploy',1,'completed',1795268247732000,1795268247732000,NULL);
CREATE TABLE secret (
	id VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	owner VARCHAR(36), 
	ciphertext TEXT NOT NULL, 
	created BIGINT NOT NULL, 
	updated BIGINT NOT NULL, 
	CONSTRAINT pk_secret PRIMARY KEY (id), 
	CONSTRAINT uq_secret_name UNIQUE (name)
);
INSERT INTO "secret" VALUES('299eddae-1dfe-441d-9af0-c019c7dbe7b4','kept-secret',NULL,'gAAAAABrAZ6Xeyy3xsADxZaeM6G_oPmugFl8D2AGm5CtNqGHleMJSKna3Fo_JOSPYZz7aLp6eqnUZbyGzATQOBjzDbxkCjqNIdEafNz6rVoGOjNTObUsBFA=',1795268247709000,1795268247709000);
INSERT INTO "secret" VALUES('c0d1c9c0-9514-4a51-bf9f-4d76d51f37f5','stackkit-private-231ae80b-e9a7-43d9-9124-6fe70b19a141-1','231ae80b-e9a7-43d9-9124-6fe70b19a141','gAAAAABrAZ6Xd7ZMG0GuKZWIm0mhE0OOCR3KF5QVlW8pwP8T_sCj0x-PrvjPD_w41KTWc67SQukifd0hkQAEpYh2YxiQwKZGtGWxM61eWRnHGJhngGJ0Ekc=',1795268247714000,1795268247714000);
CREATE TABLE service (
	id VARCHAR(36) NOT NULL, 
	identity VARCHAR(64) NOT NULL, 
	deployer_id VARCHAR(36) NOT NULL, 
	flavor VARCHAR(255) NOT NULL, 
	service_name VARCHAR(255) NOT NULL, 
	model_name VARCHAR(255) NOT NULL, 
	model_version VARCHAR(255), 
	pipeline_name VARCHAR(255), 
	pipeline_step_name VARCHAR(255), 
	run_name VARCHAR(255), 
	revision INTEGER NOT NULL, 
	config JSON NOT NULL, 
	source JSON NOT NULL, 
	target VARCHAR(16) NOT NULL, 
	state VARCHAR(32) NOT NULL, 
	state_since BIGINT NOT NULL, 
	message TEXT NOT NULL, 
	prediction_url TEXT, 
	details JSON NOT NULL, 
	platform_id VARCHAR(255), 
	platform_name VARCHAR(255), 
	unknown_since BIGINT, 
	running INTEGER GENERATED ALWAYS AS (CASE WHEN state = 'active' AND unknown_since IS NULL THEN 1 ELSE 0 END) STORED, 
	unknown_reason TEXT, 
	lease_owner TEXT, 
	lease_expires BIGINT, 
	lease_epoch INTEGER NOT NULL, 
	created BIGINT NOT NULL, 
	updated BIGINT NOT NULL, canary_revision INTEGER, canary_percent INTEGER, 
	CONSTRAINT pk_service PRIMARY KEY (id), 
	CONSTRAINT fk_service_deployer_id FOREIGN KEY(deployer_id) REFERENCES component (id), 
	CONSTRAINT uq_service_identity UNIQUE (identity)
);
INSERT INTO "service" VALUES('0a6e1c5e-1111-4222-8333-444455556666','1111111111111111111111111111111111111111111111111111111111111111','231ae80b-e9a7-43d9-9124-6fe70b19a141','remote','kept-service','iris','1','training','deploy','kept-run',2,'{"model_name": "iris", "model_uri": "/models/iris", "service_name": "kept-service"}','{"uri": "/models/iris", "digest": "sha256:2", "reference": null, "format": null}','active','active',1795268247725000,'',NULL,'{"name": "stackkit-0a6e1c5e-1111-4222-8333-444455556666"}','machine:kept','kept',NULL,NULL,NULL,NULL,1,1795268247725000,1795268247725000,NULL,NULL);
CREATE TABLE service_event (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	service_id VARCHAR(36) NOT NULL, 
	service_name VARCHAR(255) NOT NULL, 
	at BIGINT NOT NULL, 
	actor VARCHAR(255) NOT NULL, 
	action VARCHAR(32) NOT NULL, 
	state VARCHAR(32), 
	outcome VARCHAR(16) NOT NULL, 
	message TEXT NOT NULL
, idempotency_key VARCHAR(36));
INSERT INTO "service_event" VALUES(1,'0a6e1c5e-1111-4222-8333-444455556666','kept-service',1795268247727000,'ann@kept:1','deploy','active','done','',NULL);
INSERT INTO "service_event" VALUES(2,'0a6e1c5e-1111-4222-8333-444455556666','kept-service',1795268247728000,'ann@kept:1','replace','active','done','',NULL);
CREATE TABLE service_revision (
	service_id VARCHAR(36) NOT NULL, 
	number INTEGER NOT NULL, 
	config JSON NOT NULL, 
	source JSON NOT NULL, 
	digest VARCHAR(255), 
	created BIGINT NOT NULL, 
	CONSTRAINT pk_service_revision PRIMARY KEY (service_id, number), 
	CONSTRAINT fk_service_revision_service_id FOREIGN KEY(service_id) REFERENCES service (id) ON DELETE CASCADE
);
INSERT INTO "service_revision" VALUES('0a6e1c5e-1111-4222-8333-444455556666',1,'{"model_name": "iris", "model_uri": "/models/iris", "service_name": "kept-service"}','{"uri": "/models/iris", "digest": "sha256:1", "reference": null, "format": null}','sha256:1',1795268247725000);
INSERT INTO "service_revision" VALUES('0a6e1c5e-1111-4222-8333-444455556666',2,'{"model_name": "iris", "model_uri": "/models/iris", "service_name": "kept-service"}','{"uri": "/models/iris", "digest": "sha256:2", "reference": null, "format": null}','sha256:2',1795268247728000);
CREATE TABLE stack (
	id VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	created BIGINT NOT NULL, 
	updated BIGINT NOT NULL, 
	CONSTRAINT pk_stack PRIMARY KEY (id), 
	CONSTRAINT uq_stack_name UNIQUE (name)
);
INSERT INTO "stack" VALUES('72de7481-2d52-4ede-98e3-a45d1072bbc6','default',1795268247717000,1795268247717000);
INSERT INTO "stack" VALUES('9797f448-52db-456e-8be9-0210db91ac34','kept-stack',1795268247722000,1795268247722000);
CREATE TABLE stack_component (
	stack_id VARCHAR(36) NOT NULL, 
	type VARCHAR(32) NOT NULL, 
	component_id VARCHAR(36) NOT NULL, 
	CONSTRAINT pk_stack_component PRIMARY KEY (stack_id, type), 
	CONSTRAINT fk_stack_component_component_id FOREIGN KEY(component_id) REFERENCES component (id), 
	CONSTRAINT fk_stack_component_stack_id FOREIGN KEY(stack_id) REFERENCES stack (id) ON DELETE CASCADE
);
INSERT INTO "stack_component" VALUES('72de7481-2d52-4ede-98e3-a45d1072bbc6','artifact_store','0a3b0eaf-273c-4ae1-99d8-65726a336313');
INSERT INTO "stack_component" VALUES('72de7481-2d52-4ede-98e3-a45d1072bbc6','orchestrator','d1c9ee2e-072b-4883-980b-7caf59df27fc');
INSERT INTO "stack_component" VALUES('9797f448-52db-456e-8be9-0210db91ac34','artifact_store','0a3b0eaf-273c-4ae1-99d8-65726a336313');
INSERT INTO "stack_component" VALUES('9797f448-52db-456e-8be9-0210db91ac34','orchestrator','d1c9ee2e-072b-4883-980b-7caf59df27fc');
INSERT INTO "stack_component" VALUES('9797f448-52db-456e-8be9-0210db91ac34','model_deployer','231ae80b-e9a7-43d9-9124-6fe70b19a141');
CREATE TABLE stackkit_schema (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT stackkit_schema_pkc PRIMARY KEY (version_num)
);
INSERT INTO "stackkit_schema" VALUES('0002');
CREATE INDEX ix_run_pipeline_name ON run (pipeline_name, started);
CREATE INDEX ix_run_started ON run (started);
CREATE INDEX ix_secret_owner ON secret (owner);
CREATE INDEX ix_service_event_service_id ON service_event (service_id);
CREATE INDEX ix_service_created_id ON service (created, id);
CREATE INDEX ix_service_deployer_id ON service (deployer_id, created, id);
CREATE INDEX ix_service_flavor ON service (flavor, created, id);
CREATE INDEX ix_service_model_name ON service (model_name, created, id);
CREATE INDEX ix_service_model_version ON service (model_version, created, id);
CREATE INDEX ix_service_pipeline_name ON service (pipeline_name, created, id);
CREATE INDEX ix_service_pipeline_step_name ON service (pipeline_step_name, created, id);
CREATE INDEX ix_service_run_name ON service (run_name, created, id);
CREATE INDEX ix_service_service_name ON service (service_name, created, id);
CREATE INDEX ix_service_running ON service (running, created, id);
CREATE INDEX ix_stack_component_component_id ON stack_component (component_id);
CREATE INDEX ix_service_revision_digest ON service_revision (digest);
CREATE UNIQUE INDEX ix_service_event_idempotency_key ON service_event (idempotency_key);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('service_event',2);
COMMIT;
